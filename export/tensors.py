"""Converts requests to arrays and back, for both protocols; invalid values are refused before an array is made."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

_MOST_DIMS = 32  # NumPy has no more than 64
LONGEST_MESSAGE = 1000  # characters: gRPC sends it in a header, and clients take 8 KiB of headers


class Refusal(Exception):
    """Is raised for a request that is answered with a status code of gRPC, which both protocols use, and a message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message[:LONGEST_MESSAGE])
        self.code = code


def invalid(message: str) -> Refusal:
    """Returns the refusal of an invalid request."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)


# By the name of a NumPy type: the field of a TensorProto that holds such values, and the types that JSON has for them.
_KINDS: dict[str, tuple[str, set[type]]] = {
    "float32": ("float_val", {int, float}),
    "float64": ("double_val", {int, float}),
    "uint8": ("int_val", {int}),
    "int8": ("int_val", {int}),
    "int16": ("int_val", {int}),
    "int32": ("int_val", {int}),
    "int64": ("int64_val", {int}),
    "bool": ("bool_val", {bool}),
    "object": ("string_val", {str, dict}),  # strings: TensorFlow's arrays of bytes
}


class Spec:
    """One input or output of a signature: its name, dtype and shape, and the conversion of its values.

    `max_batch` is the largest first dimension where the signature leaves it open.
    """

    def __init__(self, name: str, info: TensorInfo, max_batch: int) -> None:
        import tensorflow as tf

        self.name = name
        self._type = tf.dtypes.as_dtype(info.dtype)
        self._dtype = np.dtype(self._type.as_numpy_dtype)
        self._strings = self._dtype.kind == "O"
        self._max_batch = max_batch
        dims = [dim.size for dim in info.tensor_shape.dim]
        self._shape = None if info.tensor_shape.unknown_rank else dims

    @property
    def _kind(self) -> tuple[str, set[type]]:
        if self._dtype.name not in _KINDS:
            message = f"{self.name} is {self._type.name}, which this server neither reads nor writes"
            raise Refusal(grpc.StatusCode.UNIMPLEMENTED, message)
        return _KINDS[self._dtype.name]

    def _check(self, dims: Sequence[int]) -> None:
        """Checks a shape against the signature; it must not be empty or of too large a batch."""
        shape = self._shape
        if shape is None:
            fits = len(dims) <= _MOST_DIMS
        else:
            fits = len(shape) == len(dims) and all(a in (-1, b) for a, b in zip(shape, dims, strict=True))
        if not fits or min(dims, default=1) < 1:
            wanted = "any" if shape is None else f"({', '.join('n' if size == -1 else str(size) for size in shape)})"
            raise invalid(f"{self.name}: expected shape {wanted}, every size at least 1. Received: {_text(dims)}")
        if dims and (shape is None or shape[0] == -1) and dims[0] > self._max_batch:
            raise invalid(f"{self.name}: expected a batch of at most {self._max_batch}. Received: {dims[0]}")

    def from_proto(self, proto: TensorProto) -> np.ndarray:
        """Returns the array of a message, whose dtype, shape and number of values are checked.

        A single value stands for all, as in TensorFlow, where the signature bounds how many those are.
        """
        field, _ = self._kind
        if proto.dtype != self._type.as_datatype_enum:
            wanted = f"{self._type.name} (DataType {self._type.as_datatype_enum})"
            raise invalid(f"{self.name}: expected dtype {wanted}. Received: DataType {proto.dtype}")
        if proto.tensor_shape.unknown_rank:
            raise invalid(f"{self.name}: expected a shape. Received: an unknown rank")
        dims = [dim.size for dim in proto.tensor_shape.dim]
        self._check(dims)
        size = math.prod(dims)
        if proto.tensor_content and not self._strings:
            if len(proto.tensor_content) != size * self._dtype.itemsize:
                expected = f"expected tensor_content of {size * self._dtype.itemsize} bytes for shape {_text(dims)}"
                raise invalid(f"{self.name}: {expected}. Received: {len(proto.tensor_content)} bytes")
            return np.frombuffer(proto.tensor_content, self._dtype).reshape(dims)
        values = getattr(proto, field)
        bounded = self._shape is not None and -1 not in self._shape[1:]
        if len(values) != size and not (len(values) == 1 and bounded):
            raise invalid(
                f"{self.name}: expected {size} values in {field} for shape {_text(dims)}. Received: {len(values)}"
            )
        return np.broadcast_to(self._array(list(values)), size).reshape(dims)

    def from_json(self, value: Any) -> np.ndarray:
        """Returns the array of nested lists, whose shape and types are checked."""
        _, types = self._kind
        dims, first = [], value
        while type(first) is list:
            dims.append(len(first))
            first = first[0] if first else None
        self._check(dims)
        values = [value]
        for size in dims:
            if not all(type(item) is list and len(item) == size for item in values):
                raise invalid(f"{self.name}: expected nested lists of shape {_text(dims)}. Received: unequal ones")
            values = list(chain.from_iterable(values))
        if not (received := set(map(type, values))) <= types:
            names = sorted(kind.__name__ for kind in received - types)
            raise invalid(f"{self.name}: expected {self._type.name} values. Received: {', '.join(names)}")
        if self._strings:
            values = [self._bytes(item) for item in values]
        return self._array(values).reshape(dims)

    def to_proto(self, array: np.ndarray) -> TensorProto:
        """Returns the message of an array, its values in the field of their type, as TensorFlow Serving writes them."""
        from tensorflow.core.framework.tensor_pb2 import TensorProto

        field, _ = self._kind
        proto = TensorProto(dtype=self._type.as_datatype_enum)
        for size in array.shape:
            proto.tensor_shape.dim.add(size=size)
        getattr(proto, field).extend(array.ravel().tolist())
        return proto

    def to_json(self, array: np.ndarray) -> Any:
        """Returns nested lists; strings are base64 where the name ends in `_bytes`, as in TensorFlow Serving."""
        if not self._strings:
            return array.tolist()
        encode = _encode if self.name.endswith("_bytes") else _decode
        return np.vectorize(encode, otypes=[object])(array).tolist()

    def _array(self, values: list[Any]) -> np.ndarray:
        try:
            with np.errstate(over="raise"):
                return np.array(values, self._dtype)
        except ArithmeticError as error:
            small = self._dtype.kind in "iu" and self._dtype.itemsize < 4  # the fields of a message have 4 bytes
            hint = ", where TensorFlow Serving takes others too and keeps their lowest bits" if small else ""
            raise invalid(
                f"{self.name}: expected values that {self._type.name} holds{hint}. Received: {error}"
            ) from error

    def _bytes(self, value: str | dict[str, Any]) -> bytes:
        try:
            if isinstance(value, str):
                return value.encode()
            if set(value) == {"b64"} and isinstance(value["b64"], str):
                return _from_base64(value["b64"])
        except ValueError as error:  # invalid base64, or half of a surrogate pair
            raise invalid(f'{self.name}: expected text or {{"b64": BASE64}}. Received: {error}') from error
        raise invalid(f'{self.name}: expected text or {{"b64": BASE64}}. Received: another object')


def _text(dims: Sequence[int]) -> str:
    return f"({', '.join(map(str, dims))})"


def _from_base64(text: str) -> bytes:
    """Returns the bytes of base64 as TensorFlow Serving reads it: broken into lines or not, with or without padding."""
    packed = text.encode("ascii").translate(None, b" \t\n\v\f\r")
    digits = packed.rstrip(b"=.")
    missing = -len(digits) % 4
    if len(packed) - len(digits) not in (0, missing):
        raise ValueError("incorrect padding")
    return base64.b64decode(digits + b"=" * missing, validate=True)


def _encode(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _decode(value: bytes) -> str:
    return value.decode(errors="replace")
