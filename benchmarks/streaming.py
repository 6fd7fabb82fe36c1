"""Measures training and evaluation on pictures that do not fit into memory: `python -m benchmarks.streaming`.

A folder of PNG files is written once and kept under --workdir. In a process of its own a small network is trained on
it for one epoch and evaluated by FGSM; the figures are by how much the process grew at most, and the time that the
input pipeline takes for a batch beside a plain training step of a ResNet-18. With --write=docs/performance.md it writes
the table of --out without a measurement.
"""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import documents
from commands import cli

BEGIN = "<!-- figures of benchmarks.streaming -->"
BATCH_SIZE = 64


def define_flags() -> None:
    """Defines the flags of the command."""
    documents.define_flags("streaming")
    flags.DEFINE_integer("images", 60_000, "Number of pictures.", lower_bound=1000)
    flags.DEFINE_integer("size", 96, "Height and width of a picture, in pixels.", lower_bound=8)
    flags.DEFINE_string("workdir", "runs/benchmark_streaming", "Where pictures are kept.")


def measure() -> dict[str, Any]:
    """Returns the figures."""
    given = flags.FLAGS
    folder = Path(given.workdir) / f"{given.images}-{given.size}"
    write_pictures(folder, given.images, given.size)
    return {**documents.origin("benchmarks.streaming"), **figures_of(folder, given.images, given.size)}


def figures_of(folder: Path, images: int, size: int) -> dict[str, Any]:
    """Returns the figures of a folder of pictures."""
    size_in_memory = images * size * size * 3 / 2**20
    grown = _alone(growth, folder, size)
    return {"images": images, "size": size, "uint8": size_in_memory, **grown, "seconds": _alone(pipeline, folder, size)}


def write_pictures(folder: Path, count: int, size: int) -> None:
    """Writes pictures of two classes, a fifth of them for tests; those that are there already are kept."""
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (64, size // 8 + 1, size // 8 + 1, 3), "uint8")
    for number in range(count):
        path = folder / ("test" if number % 5 == 0 else "train") / "ab"[number // 5 % 2] / f"{number:06}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            x = coarse[number % 64] ^ np.uint8(number // 64 % 256)
            Image.fromarray(np.kron(x, np.ones((8, 8, 1), "uint8"))[:size, :size]).save(path, compress_level=1)


def growth(folder: Path, size: int) -> dict[str, float]:
    """Returns by how many MB the process grew at most in a training of one epoch, and then in an evaluation."""
    import keras
    import tensorflow as tf

    import tfrobust

    layers = [
        keras.Input((size, size, 3)),
        keras.layers.Conv2D(8, 4, 4, activation="relu"),
        keras.layers.Conv2D(16, 4, 4, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ]
    classifier = tfrobust.expose(keras.Sequential(layers))
    tf.zeros(1)  # TensorFlow's own memory
    before = documents.resident("VmRSS")
    with warnings.catch_warnings(action="ignore"):  # advice on how to train
        trainer = tfrobust.AdversarialTrainer(classifier, "madry", tfrobust.attacks.fgsm(eps=1 / 255))
    trainer.compile(keras.optimizers.SGD(1e-3))
    load = functools.partial(tfrobust.data.load, f"folder:{folder}", batch_size=BATCH_SIZE, validation=0.0)
    trainer.fit(load("train"), verbose=0)
    trained = documents.resident("VmHWM") - before
    every = load("train", shuffle=False).concatenate(load("test"))
    report = tfrobust.evaluate(classifier, every, eps=1 / 255, attacks=["fgsm"], verbose=False)
    return {"training": trained, "evaluation": documents.resident("VmHWM") - before, "evaluated": report.images}


def pipeline(folder: Path, size: int) -> dict[str, float]:
    """Returns the seconds of a batch of the input pipeline, cropped and mirrored, and of a plain step of ResNet-18."""
    import tfrobust
    from benchmarks.floor import medians, step_function

    data = tfrobust.data.load(
        f"folder:{folder}", batch_size=BATCH_SIZE, augment={"pad": 4, "flip": True}, cache=False, validation=0.0
    ).take(20)
    for _ in data:  # the disk is warm then
        pass
    began = time.perf_counter()
    batches = list(data)
    batch = (time.perf_counter() - began) / len(batches)
    classifier = tfrobust.models.get("preact_resnet18", input_shape=(size, size, 3), classes=2)
    step = step_function(classifier, "standard", None, batches[0])
    return {"batch": batch, "step": medians({"step": step}, 3)["step"]}


def _alone(part: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of a part in a process of its own."""
    print(f"Measuring {part.__name__}", flush=True)
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(part, *arguments).result()


def tables(results: Mapping[str, Any]) -> str:
    """Returns the figures as a table, with their origin."""
    seconds, size = results["seconds"], results["size"]
    rows = [
        [f"{results['images']} pictures of {size}x{size}x3, decoded, one byte a value", f"{results['uint8']:.0f} MB"],
        ["growth of the process at most, in a training of one epoch", f"{results['training']:.0f} MB"],
        [f"... and then in `evaluate` of {results['evaluated']} of them", f"{results['evaluation']:.0f} MB"],
        [f"a batch of {BATCH_SIZE}, read, decoded, cropped and mirrored", f"{1000 * seconds['batch']:.0f} ms"],
        ["its share of a plain training step of `preact_resnet18`", f"{seconds['batch'] / seconds['step']:.1%}"],
    ]
    return f"{documents.table(['', ''], rows)}\n\n{documents.signature(results)}"


if __name__ == "__main__":
    cli.run(lambda _: documents.publish(BEGIN, measure, tables), define_flags)
