"""Measures what each exported format keeps of a classifier: `python -m benchmarks.shipped` writes a table.

A robust network of each data set is trained (once; it is kept under --workdir) and exported to every format. Each file
is compared with the classifier, and attacked twice on the same images: by `quick`, whose gradients are zero in a file,
and by `shipped`. A benchmark that was killed goes on with the next file. With --write=docs/deployment.md it writes the
tables of --out without a measurement.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks import documents
from commands import cli

BEGIN = "<!-- figures of benchmarks.shipped -->"
SAMPLES = 200  # training images by which integers are scaled


class Network(NamedTuple):
    """A data set, the radius of training and attack, and the epochs of training."""

    data: str
    eps: float
    epochs: int


NETWORKS = {"digits": Network("digits", 0.15, 40), "MNIST": Network("mnist", 0.2, 3)}
FORMATS = {
    "SavedModel": ("savedmodel", {}),
    "ONNX": ("onnx", {}),
    **{f"LiteRT {name}": ("litert", {"precision": name}) for name in ("float32", "float16", "dynamic", "int8")},
}


def define_flags() -> None:
    """Defines the flags of the command."""
    documents.define_flags("shipped")
    flags.DEFINE_list("networks", list(NETWORKS), f"Which of {', '.join(NETWORKS)}.")
    flags.DEFINE_integer("images", 200, "Images of the test split that are attacked.", lower_bound=1)
    flags.DEFINE_string("workdir", "runs/benchmark_shipped", "Where networks and files are kept.")


def measure() -> dict[str, Any]:
    """Returns the figures of all formats of all networks."""
    given = flags.FLAGS
    found = {name: _of_network(NETWORKS[name], Path(given.workdir) / name) for name in given.networks}
    return {**documents.origin("benchmarks.shipped"), "images": given.images, "networks": found}


def _of_network(network: Network, workdir: Path) -> dict[str, Any]:
    import tfrobust
    from benchmarks.networks import trained
    from commands.build import arrays_of

    classifier = cli.load_classifier(trained(network.data, network.eps, network.epochs, workdir))
    samples, test = (arrays_of(tfrobust.data.load(network.data, split)) for split in ("train", "test"))
    attacked = tuple(part[: flags.FLAGS.images] for part in test)

    def robust(network_: Any, suite: str) -> float:
        options = {"eps": network.eps, "attacks": suite, "probes": 0, "verbose": False}
        return float(tfrobust.evaluate(network_, attacked, **options).robust_accuracy)

    def of_keras() -> dict[str, float]:
        found = {"size": 4 * classifier.count_params(), "apart": 0.0, "clean": _clean(classifier, test)}
        return {**found, "quick": robust(classifier, "quick"), "shipped": robust(classifier, "standard")}

    def of_format(module: str, options: Mapping[str, str]) -> dict[str, float]:
        return _of_file(_exported(module, classifier, workdir, samples[0], options), classifier, test, robust)

    measures = {"Keras": of_keras, **{name: functools.partial(of_format, *form) for name, form in FORMATS.items()}}
    digest = tfrobust.classifiers.digest(classifier)
    kept = workdir / "formats" / f"{digest[:16]}-{flags.FLAGS.images}.json"
    return {"eps": network.eps, "classifier": digest, "rows": documents.resumed(kept, measures, network.data)}


def _exported(module: str, classifier: Any, workdir: Path, images: np.ndarray, options: Mapping[str, Any]) -> Path:
    """Returns the file of a format; it is written if there is none."""
    import importlib

    out = workdir / "formats" / "-".join([module, *options.values()])
    if not (out / "1").exists():
        given = {**options, "samples": images[:SAMPLES]} if "precision" in options else {}
        importlib.import_module(f"export.{module}").export_classifier(classifier, out, **given)
    return out / "1"


def _of_file(version: Path, classifier: Any, test: Any, robust: Any) -> dict[str, float]:
    from tfrobust import classifiers

    alone = classifiers.open(version)
    expected, found = (_logits(network, test[0]) for network in (classifier, alone))
    file = classifiers.runtimes.find(version)
    files = [file, *(file.parent / "variables").glob("*")] if file.suffix == ".pb" else [file]
    return {
        "size": sum(os.path.getsize(path) for path in files),
        "apart": float(np.abs(found - expected).max() / np.abs(expected).max()),
        "clean": _clean(alone, test),
        "quick": robust(alone, "quick"),
        "shipped": robust(classifiers.open(version, source=classifier), "shipped"),
    }


def _logits(network: Any, x: np.ndarray) -> np.ndarray:
    parts = [np.asarray(network(x[i : i + 500], training=False)["logits"]) for i in range(0, len(x), 500)]
    return np.concatenate(parts)


def _clean(network: Any, test: tuple[np.ndarray, np.ndarray]) -> float:
    return float((_logits(network, test[0]).argmax(-1) == test[1]).mean())


def tables(results: Mapping[str, Any]) -> str:
    """Returns a table of each network."""
    heads = ("format", "KiB", "logits apart", "clean, %", "`quick`, %", "`shipped`, %")
    parts = []
    for name, found in results["networks"].items():
        rows = [
            (
                label,
                f"{row['size'] / 1024:.0f}",
                f"{row['apart']:.1g}",
                *(f"{100 * row[key]:.1f}" for key in ("clean", "quick", "shipped")),
            )
            for label, row in found["rows"].items()
        ]
        parts += [f"{name}, eps {found['eps']:g}, robust accuracy on the first {results['images']} test images:"]
        parts += [documents.table(heads, rows)]
    return "\n\n".join([*parts, documents.signature(results)])


if __name__ == "__main__":
    cli.run(lambda _: documents.publish(BEGIN, measure, tables), define_flags)
