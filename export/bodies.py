"""Reads the body of an HTTP request as TensorFlow Serving does: of a given length or in chunks, perhaps in gzip."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus
from io import BufferedIOBase

from export.tensors import invalid

GZIP_LIMIT = 100 << 20  # bytes: TensorFlow Serving unpacks no more, however large a body may be
_LINE = 1000  # bytes of the line before a chunk, and of a trailer
_TRAILERS = 100
_CRLF = b"\r\n"


class Unread(Exception):
    """Is raised for a request that is refused before its body is read; the connection is then closed."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def read(headers: Message, file: BufferedIOBase, limit: int, proceed: Callable[[], None]) -> bytes:
    """Returns the body, unpacked, of at most `limit` bytes; `proceed` is called before the first byte is read.

    Raises:
        Unread: if neither a Content-Length nor chunks frame the body, or if it is too long.
        Refusal: if the body says that it is in gzip and is not, or is too long when it is unpacked.
        ConnectionAbortedError: if the client hangs up.
    """
    chunks, length = _framing(headers)
    if length > limit:
        raise _too_long(limit, length)
    proceed()
    body = _in_chunks(file, limit) if chunks else _exactly(file, length)
    # TensorFlow Serving looks for this word, in small letters, in the first of such headers, and ignores all others.
    return _unpacked(body, min(limit, GZIP_LIMIT)) if "gzip" in headers.get("Content-Encoding", "") else body


def _framing(headers: Message) -> tuple[bool, int]:
    """Returns whether the body comes in chunks, or else its length."""
    lengths, codings = headers.get_all("Content-Length", []), headers.get_all("Transfer-Encoding", [])
    if not lengths and not codings:
        raise Unread(HTTPStatus.LENGTH_REQUIRED, "Expected a Content-Length, or Transfer-Encoding: chunked")
    if codings and (lengths or [coding.strip().lower() for coding in codings] != ["chunked"]):
        received = f"{', '.join(codings)[:100]}{' beside a Content-Length' if lengths else ''}"
        raise Unread(HTTPStatus.BAD_REQUEST, f"Expected Transfer-Encoding: chunked alone. Received: {received}")
    if codings:
        return True, 0
    if len(set(lengths)) > 1 or not re.fullmatch("[0-9]{1,18}", lengths[0]):
        raise Unread(HTTPStatus.BAD_REQUEST, f"Expected one decimal Content-Length. Received: {lengths[-1][:100]}")
    return False, int(lengths[0])


def _in_chunks(file: BufferedIOBase, limit: int) -> bytes:
    body = bytearray()
    while length := _chunk_length(file):
        if len(body) + length > limit:
            raise _too_long(limit, "more, in chunks")
        body += _exactly(file, length)
        if _exactly(file, len(_CRLF)) != _CRLF:
            raise Unread(HTTPStatus.BAD_REQUEST, "Expected a chunk of the length that it has. Received: a longer one")
    for _ in range(_TRAILERS):
        if _line(file) == b"":
            return bytes(body)
    raise Unread(HTTPStatus.BAD_REQUEST, f"Expected at most {_TRAILERS} trailers. Received: more")


def _chunk_length(file: BufferedIOBase) -> int:
    text = _line(file).rstrip(b" ")  # without an extension, which TensorFlow Serving refuses
    if not re.fullmatch(b"[0-9A-Fa-f]{1,15}", text):
        raise Unread(HTTPStatus.BAD_REQUEST, f"Expected the hexadecimal length of a chunk. Received: {text[:100]!r}")
    return int(text, 16)


def _line(file: BufferedIOBase) -> bytes:
    line = file.readline(_LINE)
    if not line.endswith(b"\n") and len(line) < _LINE:
        raise _hung_up()
    if not line.endswith(b"\n"):
        raise Unread(HTTPStatus.BAD_REQUEST, f"Expected a line of at most {_LINE} bytes between chunks")
    return line.rstrip(b"\r\n")


def _exactly(file: BufferedIOBase, length: int) -> bytes:
    body = file.read(length)
    if len(body) < length:
        raise _hung_up()
    return body


def _unpacked(body: bytes, limit: int) -> bytes:
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)  # of gzip, with its check sum
    try:
        unpacked = unpack.decompress(body, limit + 1)
    except zlib.error as error:
        raise invalid(f"Expected a body in gzip, as Content-Encoding says. Received: {error}") from error
    if len(unpacked) > limit:
        raise invalid(f"Expected a body of at most {limit} bytes when it is unpacked. Received: more")
    if not unpack.eof or unpack.unused_data:
        raise invalid("Expected one whole body in gzip. Received: a part, or something behind it")
    return unpacked


def _too_long(limit: int, received: object) -> Unread:
    message = f"Expected a body of at most {limit} bytes. Received: {received}"
    return Unread(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _hung_up() -> ConnectionAbortedError:
    return ConnectionAbortedError("the client has hung up")
