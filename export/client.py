"""Asks a server for the classes of images: TensorFlow Serving, or `tfrobust serve`, by gRPC or REST.

    tfrobust client --name=NAME FILE ...                    PNG and JPEG files, and folders of such
    tfrobust client --name=NAME --compare=C.keras FILE ...  beside the classifier that was exported
    tfrobust client --name=NAME --load=1000 FILE ...        how fast, with 8 requests at once

Exits with 3 if --compare finds a difference, or a request of --load fails.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from commands import cli
from export.logits import compare
from tfrobust_base.connections import Connection, Model, ServingError, check_server, connect, pixel_shape

ENDINGS = (".png", ".jpg", ".jpeg")
OUTPUTS = ("logits", "probabilities", "label")


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("server", "grpc://127.0.0.1:8500", "Address; http://127.0.0.1:8501 for REST.")
    flags.DEFINE_string("name", None, "The model's name on the server.")
    flags.DEFINE_string("version", "", "Number of a version, or its label; default: the latest.")
    flags.DEFINE_enum("signature", "predict_bytes", list(INPUTS), "What is sent: files as they are, or their pixels.")
    flags.DEFINE_float("timeout", 10.0, "Seconds until a request is given up.", lower_bound=0.001)
    flags.DEFINE_integer("batch_size", None, "Images in a request; default: 32, with --load 1.", lower_bound=1)
    flags.DEFINE_string("class_names", None, "File of the classes' names, one a line; default: their numbers.")
    flags.DEFINE_bool("json", False, "One JSON object a line, with all probabilities, in place of the table.")
    flags.DEFINE_string("compare", None, "A .keras file to run beside the server.")
    flags.DEFINE_float("tolerance", 1e-5, "Of --compare: difference of logits / largest |logit|.", lower_bound=0.0)
    flags.DEFINE_integer("load", None, "Load test: number of requests.", lower_bound=1)
    flags.DEFINE_integer("concurrency", 8, "Of --load: number of concurrent requests.", lower_bound=1)
    flags.DEFINE_float("seconds", 60.0, "Of --load: seconds after which no more requests are sent.", lower_bound=0.1)


def find_images(paths: Sequence[str]) -> list[Path]:
    """Returns the files as they are given, and those of the folders, sorted, that end as PNG and JPEG do."""
    files = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"Expected files of images, or folders of such. Received: {path}, where nothing is")
        found = [path]
        if path.is_dir():
            found = sorted(inner for inner in path.rglob("*") if inner.suffix.lower() in ENDINGS and inner.is_file())
        if not found:
            raise cli.Mistake(f"Expected a folder with files that end in {', '.join(ENDINGS)}. Received: {path}")
        files += found
    return files


@functools.cache
def _decoder(shape: tuple[int, int, int]) -> Callable[[Any], Any]:
    import tensorflow as tf

    from export import pictures

    spec = tf.TensorSpec((None,), tf.string)
    return tf.function(functools.partial(pictures.decode, shape=shape), input_signature=[spec], autograph=False)


def _decode(encoded: Sequence[bytes], shape: tuple[int, int, int]) -> np.ndarray:
    """Returns the uint8 pixels (batch, H, W, C), decoded as `predict_bytes` decodes them."""
    import tensorflow as tf

    try:
        return _decoder(shape)(tf.constant(encoded, tf.string)).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise cli.Mistake(f"Expected PNG or JPEG images of at most 16 megapixels. Received: {error.message}") from error


def _pixels(encoded: Sequence[bytes], shape: tuple[int, int, int]) -> np.ndarray:
    return _decode(encoded, shape) / np.float32(255.0)


# For each signature, the name of its input, and the function from encoded images and (H, W, C) to its values.
INPUTS: Mapping[str, tuple[str, Callable[[Sequence[bytes], Any], np.ndarray]]] = {
    "predict_bytes": ("image_bytes", lambda encoded, _: np.array(encoded, dtype=object)),
    "serving_default": ("pixels", _pixels),
    "uint8": ("pixels", _decode),
}


class Sender:
    """Sends files of images over a connection to a signature, which is a name of `INPUTS`."""

    def __init__(self, connection: Connection, signature: str):
        self.connection, self.signature = connection, signature
        self._input, self._encode = INPUTS[signature]
        self._shape = pixel_shape(connection, signature) if self._input == "pixels" else None

    def prepare(self, files: Sequence[Path]) -> Any:
        """Returns the request of the images of some files."""
        encoded = [file.read_bytes() for file in files]
        try:
            inputs = {self._input: self._encode(encoded, self._shape)}
        except cli.Mistake as error:
            raise cli.Mistake(f"{_named(files)}: {error}") from error
        return self.connection.prepare(self.signature, inputs)

    def classify(self, files: Sequence[Path]) -> dict[str, np.ndarray]:
        """Returns `logits` and `probabilities` (batch, classes) and `label` (batch,) of some files."""
        try:
            outputs = self.connection.send(self.prepare(files))
        except ServingError as error:
            if error.code != "INVALID_ARGUMENT":
                raise
            raise ServingError(f"{_named(files)}: {error}", error.code) from error
        if any(len(outputs.get(name, ())) != len(files) for name in OUTPUTS):
            raise ServingError(f"Expected {', '.join(OUTPUTS)} of {len(files)} images. Received: {sorted(outputs)}")
        return outputs


def _named(files: Sequence[Path]) -> str:
    if len(files) == 1:
        return str(files[0])
    return f"{files[0]} ... {files[-1]} ({len(files)} files in a request; --batch_size=1 finds which)"


def _batches(files: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    return (files[start : start + size] for start in range(0, len(files), size))


def _classify(sender: Sender, files: Sequence[Path], given: Any) -> int:
    names = Path(given.class_names).read_text().splitlines() if given.class_names else None
    width = max(len(str(file)) for file in files)
    title = max(map(len, names)) if names else 5
    if not given.json:
        print(f"{'file':{width}}  {'class':{title}}  probability")
    for batch in _batches(files, given.batch_size or 32):
        outputs = sender.classify(batch)
        for file, label, shares in zip(batch, outputs["label"], outputs["probabilities"].tolist(), strict=True):
            if names and len(names) != len(shares):
                raise cli.Mistake(f"Expected {len(shares)} lines in {given.class_names}. Received: {len(names)}")
            name = names[label] if names else int(label)
            if given.json:
                print(json.dumps({"file": str(file), "class": name, "probabilities": shares}))
            else:
                print(f"{file!s:{width}}  {name!s:{title}}  {max(shares):.4f}")
    return 0


def _compare(sender: Sender, files: Sequence[Path], given: Any) -> int:
    classifier = cli.load_classifier(given.compare)
    logits, answers = [], []
    for batch in _batches(files, given.batch_size or 32):
        answers.append(sender.classify(batch))
        pixels = _pixels([file.read_bytes() for file in batch], classifier.input_shape[1:])
        logits.append(np.asarray(classifier(pixels, training=False)["logits"], np.float32))
    served = {name: np.concatenate([outputs[name] for outputs in answers]) for name in OUTPUTS}
    difference = compare(np.concatenate(logits), served, given.tolerance)
    print(difference)
    if difference.labels > difference.ties or not difference.logits <= given.tolerance * difference.largest:  # NaN too
        print(f"The server is no copy of {given.compare} within --tolerance={given.tolerance:g}", file=sys.stderr)
        return cli.GATE_FAILED
    return 0


def _load(open_connection: Callable[[], Connection], sender: Sender, files: Sequence[Path], given: Any) -> int:
    from export.loading import load

    size = given.batch_size or 1
    prepared = [sender.prepare(batch) for batch in _batches(files[: given.load * size], size)]

    def start() -> Callable[[int], object]:
        send = open_connection().send
        return lambda number: send(prepared[number % len(prepared)])

    seen = load(start, given.load, given.concurrency, given.seconds)
    print(seen)
    if seen.failures:
        print(seen.failures[0], file=sys.stderr)
    return cli.GATE_FAILED if seen.failures else 0


def main(arguments: list[str]) -> int:
    """Classifies, compares or tests the load by the flags, and returns the exit code."""
    given = flags.FLAGS
    if not given.name:
        raise cli.Misuse("Expected --name=NAME, the model's on the server. Received: no --name")
    if given.compare and given.load:
        raise cli.Misuse("Expected one of --compare and --load. Received: both")
    try:
        check_server(given.server)
    except ValueError as error:
        raise cli.Misuse(str(error)) from error
    files = find_images(arguments[1:])
    if given.compare:
        cli.check_classifier_file(given.compare)

    def open_connection() -> Connection:
        return connect(given.server, Model(given.name, given.version), given.timeout)

    sender = Sender(open_connection(), given.signature)
    if given.load:
        return _load(open_connection, sender, files, given)
    return _compare(sender, files, given) if given.compare else _classify(sender, files, given)


if __name__ == "__main__":
    cli.run(main, define_flags, arguments="FILE ...")
