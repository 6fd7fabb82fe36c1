"""Requests a second of `tfrobust serve`, by protocol and signature: `python -m benchmarks.serving`.

Clients and server share the machine. Writes --out; `--write=FILE.md` measures nothing and puts the table of --out in a
document, between its two marks.
"""

import contextlib
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
from export.loading import load
from tfrobust_base.connections import Model, connect

BEGIN = "<!-- figures: python -m benchmarks.serving -->"
NAME = "classifier"


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("network", "cnn_b", "Name in tfrobust.models; it is not trained.")
    flags.DEFINE_integer("clients", 8, "Number of clients that ask at once.", lower_bound=1)
    flags.DEFINE_float("seconds", 60.0, "Duration of each measurement.", lower_bound=1.0)
    documents.define_flags("serving")


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
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("gRPC "):  # the last line before it answers
                break
        rest, grpc = re.search(r"REST (http://[\d.:]+)", said), re.search(r"gRPC ([\d.:]+)", said)
        if not (rest and grpc):
            raise ValueError(f"Expected the server's addresses. Received: {said}{(folder / 'log').read_text()}")
        yield process, {"gRPC": f"grpc://{grpc[1]}", "REST": rest[1]}, classifier.input_shape[1:]
    finally:
        process.terminate()
        process.wait()


def inputs(shape: tuple[int, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Returns one image of noise for each signature, as its input."""
    import tensorflow as tf

    whole = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    return {
        "predict_bytes": {"image_bytes": np.array([tf.io.encode_png(whole[0]).numpy()], object)},
        "uint8": {"pixels": whole},
        "serving_default": {"pixels": whole.astype("float32") / 255},
    }


def measured() -> dict[str, Any]:
    """Returns all figures and their origin."""
    given = {name: flags.FLAGS[name].value for name in ("network", "clients", "seconds")}
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, served(given["network"], Path(folder)) as (server, addresses, shape):
        for signature, values in inputs(shape).items():
            found[signature] = {}
            for protocol, address in addresses.items():
                before = round(documents.resident("VmRSS", server.pid))
                seen = _asked(address, signature, values, given["clients"], given["seconds"])
                seen["memory"] = [before, round(documents.resident("VmRSS", server.pid))]
                found[signature][protocol] = seen
                print(signature, protocol, seen, flush=True)
    return {**documents.origin("benchmarks.serving"), **given, "loads": found}


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
    loads = results["loads"]
    every = [load for by_protocol in loads.values() for load in by_protocol.values()]
    requests, failed = (sum(load[key] for load in every) for key in ("requests", "failed"))
    memory = [load["memory"][1] for load in every]
    protocols = next(iter(loads.values()))
    heads = ("signature", *(f"{protocol}, requests a second (p50, p99 in ms)" for protocol in protocols))
    rows = [
        [f"`{signature}`", *(f"{seen['rate']:.0f} ({seen['p50']:.1f}, {seen['p99']:.1f})" for seen in found.values())]
        for signature, found in loads.items()
    ]
    summary = (
        f"{requests} requests, {failed} failed; the server's memory {memory[0]} MB after the first load, {memory[-1]} "
        f"MB after the last. {results['clients']} clients with one image a request, {results['seconds']:.0f} s for "
        f"each figure, the network `{results['network']}`."
    )
    signed = documents.signature(results, cores="cores for the server and its clients")
    return "\n\n".join([documents.table(heads, rows), summary, signed])


if __name__ == "__main__":
    cli.run(lambda _: documents.publish(BEGIN, measured, table), define_flags)
