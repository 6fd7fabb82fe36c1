"""The files beside the graph of an exported version: requests for the warm-up, and hashes of all files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from commands.cli import Mistake

EXTRA = "assets.extra"
WARM_UP = "tf_serving_warmup_requests"  # the name that TensorFlow Serving looks for
SUMS = "SHA256SUMS"


def write_warm_up(version: Path, name: str, functions: Mapping[str, Any]) -> None:
    """Writes a request to each signature, which TensorFlow Serving runs before the version is available.

    `name` is that of the model, `functions` are those of `export.module.Signatures`.
    """
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(version / EXTRA / WARM_UP)) as writer:
        for signature, function in functions.items():
            (spec,) = function.input_signature
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                inputs={spec.name: tf.make_tensor_proto(_example(spec, functions))},
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _example(spec: tf.TensorSpec, functions: Mapping[str, Any]) -> Any:
    """Returns a batch of one black image, encoded if the signature reads strings."""
    if spec.dtype == tf.string:
        (pixels,) = functions["uint8"].input_signature
        return [tf.io.encode_png(tf.zeros(pixels.shape[1:], tf.uint8)).numpy()]
    return tf.zeros((1, *spec.shape[1:]), spec.dtype).numpy()


def write_sums(version: Path) -> None:
    """Writes the hashes of all files but its own, for `sha256sum -c` in the version's folder."""
    lines = [f"{_sha256(version / name)}  {name}\n" for name in _files(version)]
    (version / EXTRA / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sums(version: Path) -> int:
    """Returns the number of files after a check of their hashes; a `Mistake` names changed, missing and added files."""
    file = version / EXTRA / SUMS
    if not file.is_file():
        raise FileNotFoundError(f"Expected a version that `tfrobust export` wrote, with {file}. Received: no such file")
    written = {name: digest for digest, _, name in (line.partition("  ") for line in file.read_text().splitlines())}
    found = {name: _sha256(version / name) for name in _files(version)}
    problems = [
        *(f"{name} was changed" for name in sorted(found.keys() & written.keys()) if found[name] != written[name]),
        *(f"{name} is missing" for name in sorted(written.keys() - found.keys())),
        *(f"{name} was added" for name in sorted(found.keys() - written.keys())),
    ]
    if problems:
        raise Mistake(f"{version} is not as it was written: {'; '.join(problems)}")
    return len(found)


def _files(version: Path) -> list[str]:
    names = sorted(path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file())
    return [name for name in names if name != f"{EXTRA}/{SUMS}"]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
