"""Reads the networks of shipped files and of servers."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrobust.utils.errors import invalid
from tfrobust.utils.optional import imported
from tfrobust_base import connections


class Runtime(NamedTuple):
    """A network as its runtime computes it."""

    logits: Callable[[Any], Any]  # pixels (B, H, W, C) float32 -> (B, classes) float32
    input_shape: tuple[int, int, int]
    classes: int
    in_graph: bool = False  # whether `logits` takes tensors of a TensorFlow graph, and has gradients


EXPORTED = ("saved_model.pb", "model.tflite", "model.onnx")  # the file of an exported version that holds the network
CHANNELS = (1, 3)  # numbers of channels by which images (B, C, H, W) are told from (B, H, W, C)
SIGNATURES = ("logits", "serving_default")  # of a SavedModel and of a server's model; the first that is there is read
TINY = 1e-30  # the least probability whose logarithm is taken


def find(path: Path) -> Path:
    """Returns the file of a network: the path itself, or that in an exported version, or in the latest of several.

    Raises:
        FileNotFoundError: if there is none.
    """
    if path.is_file():
        return path
    versions = (
        sorted((p for p in path.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name)) if path.is_dir() else []
    )
    for folder in (path, *reversed(versions)):
        for name in EXPORTED:
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(
        f"Expected a file of a classifier, or the folder of an exported one, with {' or '.join(EXPORTED)}. "
        f"Received: {path}" + ("" if path.exists() else ", where nothing is")
    )


def digest(file: Path) -> str:
    """Returns the SHA-256 of a network's file, with the weights that lie beside that of a SavedModel."""
    weights = sorted((file.parent / "variables").glob("*")) if file.suffix == ".pb" else []
    found = hashlib.sha256()
    for part in (file, *weights):
        with part.open("rb") as opened:
            found.update(hashlib.file_digest(opened, "sha256").digest())
    return found.hexdigest()


def saved_model(file: Path) -> Runtime:
    """Opens a SavedModel by its signature `logits`, or `serving_default`; it runs in TensorFlow's graphs."""
    loaded = tf.saved_model.load(str(file.parent))
    signatures = loaded.signatures
    function = signatures[_signature(signatures, file.parent)]
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1:
        raise invalid(f"SavedModel {file.parent}", "a signature with one input", sorted(inputs))
    ((name, spec),) = inputs.items()
    outputs = {key: tuple(value.shape) for key, value in function.structured_outputs.items()}
    output = _logits_of(outputs, file)
    dtype, shape = spec.dtype, _image(tuple(spec.shape), file)

    def logits(pixels: Any, _keep: Any = loaded) -> Any:  # a signature does not keep its variables
        return tf.cast(function(**{name: tf.cast(pixels, dtype)})[output], tf.float32)

    return Runtime(_as_logits(logits, shape, file), shape, outputs[output][-1], in_graph=True)


def litert(file: Path) -> Runtime:
    """Opens a file of LiteRT (TensorFlow Lite); integers of a quantized file are computed from pixels and back."""
    runtime = imported("ai_edge_litert.interpreter", "deploy", f"The file {file}")
    try:
        interpreter = runtime.Interpreter(model_path=str(file), num_threads=os.cpu_count())
        interpreter.allocate_tensors()
    except ValueError as error:
        raise invalid(f"file {file}", "one of LiteRT", error) from error
    (given, *more), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if more:
        raise invalid(f"file {file}", "a network with one input", [given["name"], *(one["name"] for one in more)])
    names = {str(detail["name"]): tuple(map(int, detail["shape_signature"])) for detail in outputs}
    output = outputs[list(names).index(_logits_of(names, file))]
    shape, lock = _image(tuple(map(int, given["shape_signature"])), file), threading.Lock()

    def run(values: np.ndarray) -> np.ndarray:
        with lock:  # an interpreter has one set of tensors
            if tuple(interpreter.get_input_details()[0]["shape"]) != values.shape:
                interpreter.resize_tensor_input(given["index"], values.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(given["index"], values)
            interpreter.invoke()
            return _restored(interpreter.get_tensor(output["index"]), output)

    logits = _of_pixels(run, given["dtype"], *given["quantization"])
    return Runtime(_as_logits(logits, shape, file), shape, int(output["shape"][-1]))


def onnx(file: Path) -> Runtime:
    """Opens a file of ONNX by ONNX Runtime; images may be `(B, C, H, W)`, as PyTorch has them."""
    runtime = imported("onnxruntime", "deploy", f"The file {file}")
    try:
        session = runtime.InferenceSession(str(file), providers=runtime.get_available_providers())
    except Exception as error:  # ONNX Runtime has a class of its own for each status, and no common one
        raise invalid(f"file {file}", "one of ONNX", error) from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise invalid(f"file {file}", "a network with one input", [one.name for one in inputs])
    (given,) = inputs
    outputs = {one.name: tuple(one.shape) for one in session.get_outputs()}
    output = _logits_of(outputs, file)
    dtype = {"tensor(float16)": "float16", "tensor(uint8)": "uint8"}.get(given.type, "float32")
    shape, first = tuple(given.shape), False
    if len(shape) == 4 and shape[1] in CHANNELS and shape[3] not in CHANNELS:
        shape, first = (shape[0], *shape[2:], shape[1]), True

    def run(values: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if first else values
        return np.asarray(session.run([output], {given.name: values})[0], "float32")

    image = _image(shape, file)
    return Runtime(_as_logits(_of_pixels(run, dtype), image, file), image, int(outputs[output][-1]))


def server(address: str, timeout: float) -> Runtime:
    """Opens a model on a server, `SCHEME://HOST:PORT/NAME`, or `.../NAME/VERSION` for one of its versions."""
    scheme, _, rest = address.partition("://")
    host, *path = rest.strip("/").split("/")
    if scheme not in connections.PROTOCOLS or ":" not in host or not 1 <= len(path) <= 2:
        raise invalid("server", "SCHEME://HOST:PORT/NAME, or .../NAME/VERSION", address)
    connection = connections.connect(f"{scheme}://{host}", connections.Model(*path), timeout)
    signatures = connection.signatures().signature_def
    signature = _signature(signatures, address)
    described = signatures[signature]
    if len(described.inputs) != 1:
        raise invalid(f"model at {address}", "a signature with one input", sorted(described.inputs))
    ((name, given),) = described.inputs.items()
    outputs = {key: _sizes(tensor.tensor_shape) for key, tensor in described.outputs.items()}
    output, shape = _logits_of(outputs, address), _image(_sizes(given.tensor_shape), address)

    def logits(pixels: np.ndarray) -> np.ndarray:
        request = connection.prepare(signature, {name: pixels})
        return np.asarray(connection.send(request, output if len(outputs) == 1 else "")[output], "float32")

    return Runtime(_as_logits(logits, shape, address), shape, int(outputs[output][-1]))


def _sizes(shape: Any) -> tuple[int, ...]:
    return tuple(int(dim.size) for dim in shape.dim)


def _signature(signatures: Any, where: object) -> str:
    """Returns the first name of `SIGNATURES` that is there."""
    name = next((name for name in SIGNATURES if name in signatures), None)
    if name is None:
        raise invalid(f"model at {where}", f"one of the signatures {', '.join(SIGNATURES)}", sorted(signatures))
    return name


OPENERS: Mapping[str, Callable[[Path], Runtime]] = {".pb": saved_model, ".tflite": litert, ".onnx": onnx}


def _logits_of(outputs: Mapping[str, tuple[Any, ...]], file: object) -> str:
    """Returns the name of the output with the logits: "logits", or that of the only output `(B, classes)`."""
    if "logits" in outputs:
        return "logits"
    fitting = [name for name, shape in outputs.items() if len(shape) == 2 and isinstance(shape[-1], int)]
    if len(fitting) != 1 or outputs[fitting[0]][-1] < 2:
        raise invalid(
            f"classifier {file}", "an output 'logits' (batch, at least 2 classes), or a single one", dict(outputs)
        )
    return fitting[0]


def _image(shape: tuple[Any, ...], file: object) -> tuple[int, int, int]:
    sizes = shape[1:]
    if len(sizes) != 3 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise invalid(f"classifier {file}", "a network that takes images (batch, H, W, C) of one size", shape)
    height, width, channels = sizes
    return height, width, channels


def _as_logits(function: Callable[[Any], Any], shape: tuple[int, int, int], file: object) -> Callable[[Any], Any]:
    """Returns the function, or its logarithm if its outputs on random images are probabilities."""
    pixels = np.random.default_rng(0).uniform(size=(2, *shape)).astype("float32")
    try:
        found = np.asarray(function(pixels))
    except (ValueError, RuntimeError) as error:
        raise invalid(f"classifier {file}", f"a network that classifies 2 images {shape}", error) from error
    if (found >= 0).all() and (found <= 1).all() and np.abs(found.sum(-1) - 1).max() < 1e-2:
        return lambda pixels: _logarithm(function(pixels))
    return function


def _logarithm(probabilities: Any) -> Any:
    if isinstance(probabilities, np.ndarray):
        return np.log(np.maximum(probabilities, TINY))
    return tf.math.log(tf.maximum(probabilities, TINY))


def _of_pixels(
    run: Callable[[np.ndarray], np.ndarray], dtype: Any, scale: float = 0.0, zero: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function of pixels by one of values in the type of an input.

    Integers are pixels / scale + zero; without a scale they have 0..255 for the pixels 0..1. An image with a pixel that
    is NaN or that no integer stands for gets logits of NaN, as in exported files of floating point.
    """
    if np.dtype(dtype).kind == "f":
        return lambda pixels: run(pixels.astype(dtype))
    limits = np.iinfo(dtype)

    def logits(pixels: np.ndarray) -> np.ndarray:
        values = np.rint(pixels / (scale or 1 / 255)) + zero
        held = np.all((values >= limits.min) & (values <= limits.max), (1, 2, 3))  # no comparison with NaN holds
        found = run(np.where(held[:, None, None, None], values, zero).astype(dtype))
        return np.where(held[:, None], found, np.float32("nan"))

    return logits


def _restored(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    if values.dtype.kind == "f":
        return values.astype("float32")
    scale, zero = detail["quantization"]
    return np.float32(scale) * (values.astype("float32") - zero)
