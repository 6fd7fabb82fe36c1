"""Requests a second of `export.serve`, by protocol and signature: `python -m benchmarks.serving`.

Clients and server share the machine. Writes --out; `--write=FILE.md` measures nothing and puts the table of --out in a
document, between its two marks.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import documents
from commands import cli
from export.connections import Model, connect
from export.loading import load
from tfrobust.utils.files import replacing

BEGIN = "<!-- figures: python -m benchmarks.serving -->"
NAME = "classifier"


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("network", "cnn_b", "Of tfrobust.models, untrained.")
    flags.DEFINE_integer("clients", 8, "How many ask at once.", lower_bound=1)
    flags.DEFINE_float("seconds", 60.0, "Of each measurement.", lower_bound=1.0)
    flags.DEFINE_string("out", "benchmarks/results/serving.json", "Where the figures are written.")
    flags.DEFINE_string("write", None, "A document that gets the table of --out; nothing is measured.")


@contextlib.contextmanager
def served(network: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str], tuple[int, ...]]]:
    """Exports a network and yields the server's process, its address by protocol, and the shape of an image."""
    import tfrobust
    from export.savedmodel import export_classifier

    classifier = tfrobust.models.get(network)
    export_classifier(classifier, folder / NAME)
    command = [sys.executable, "-m", "export.serve", f"--model={folder / NAME}", "--rest_port=0", "--grpc_port=0"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        said = "".join(_until_ready(process.stdout))
        rest, grpc = re.search(r"REST (http://[\d.:]+)", said), re.search(r"gRPC ([\d.:]+)", said)
        if not (rest and grpc):
            raise ValueError(f"Expected the server's addresses. Received: {said}{(folder / 'log').read_text()}")
        yield process, {"gRPC": f"grpc://{grpc[1]}", "REST": rest[1]}, classifier.input_shape[1:]
    finally:
        process.terminate()
        process.wait()


def _until_ready(lines: Any) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith("gRPC "):
            return


def inputs(shape: tuple[int, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Returns one image of noise for each signature, as its input."""
    import tensorflow as tf

    whole = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    return {
        "predict_bytes": {"image_bytes": np.array([tf.io.encode_png(whole[0]).numpy()], object)},
        "uint8": {"pixels": whole},
        "serving_default": {"pixels": whole.astype("float32") / 255},
    }


def measured(network: str, clients: int, seconds: float) -> dict[str, Any]:
    """Returns all figures, with what they were measured on."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, served(network, Path(folder)) as (process, addresses, shape):
        for signature, given in inputs(shape).items():
            found[signature] = {}
            for protocol, address in addresses.items():
                before = round(documents.resident("VmRSS", process.pid))
                found[signature][protocol] = _asked(address, signature, given, clients, seconds)
                found[signature][protocol]["memory"] = [before, round(documents.resident("VmRSS", process.pid))]
                print(signature, protocol, found[signature][protocol], flush=True)
    return {
        **documents.origin("benchmarks.serving"),
        "network": network,
        "clients": clients,
        "seconds": seconds,
        "loads": found,
    }


def _asked(
    address: str, signature: str, given: Mapping[str, np.ndarray], clients: int, seconds: float
) -> dict[str, Any]:
    def start() -> Any:
        connection = connect(address, Model(NAME))
        request = connection.prepare(signature, given)
        return lambda number: connection.send(request)

    seen = load(start, sys.maxsize, clients, seconds)
    return {
        "requests": len(seen.latencies),
        "failed": len(seen.failures),
        "rate": seen.rate,
        **{f"p{percent}": seen.milliseconds(percent) for percent in (50, 95, 99)},
    }


def table(results: Mapping[str, Any]) -> str:
    """Returns the table of all loads."""
    protocols = list(next(iter(results["loads"].values())))
    heads = [f"{protocol}, requests a second (p50, p99 in ms)" for protocol in protocols]
    lines = [f"| signature | {' | '.join(heads)} |", "|---" * (1 + len(protocols)) + "|"]
    every = [load for by_protocol in results["loads"].values() for load in by_protocol.values()]
    for signature, by_protocol in results["loads"].items():
        cells = [f"{load['rate']:.0f} ({load['p50']:.1f}, {load['p99']:.1f})" for load in by_protocol.values()]
        lines.append(f"| `{signature}` | {' | '.join(cells)} |")
    requests, failed = (sum(load[key] for load in every) for key in ("requests", "failed"))
    memory = [load["memory"] for load in every]
    return "\n".join(
        [
            *lines,
            "",
            f"{requests} requests, {failed} failed; the server's memory {memory[0][1]} MB after the first load, "
            f"{memory[-1][1]} MB after the last. {results['clients']} clients with one image a request, "
            f"{results['seconds']:.0f} s for each figure, the network `{results['network']}`.",
            "",
            documents.signature(results, "cores for the server and its clients"),
        ]
    )


def main(_: list[str]) -> None:
    """Measures and prints the table, or puts it into a document."""
    given = flags.FLAGS
    out = Path(given.out)
    if given.write:
        documents.write(Path(given.write), BEGIN, table(json.loads(out.read_text())))
        return
    results = measured(given.network, given.clients, given.seconds)
    with replacing(out) as beside:
        beside.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    cli.run(main, define_flags)
