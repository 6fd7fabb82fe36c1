"""TensorFlow Serving's REST protocol, on the standard library's HTTP server.

Requests are framed here and not by Werkzeug, because its server closes the connection after every answer and asks for a
body (100-continue) before it checks the body's length.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
import time
import traceback
import urllib.parse
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from export import bodies, grpc_service
from export.bodies import Unread
from export.servable import Signature, Versions
from export.tensors import Refusal, Spec, invalid

_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<action>:predict|/metadata|)"
)
_PATHS = "/v1/models/NAME[/versions/N], the same with /metadata or :predict"
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
}  # anything else is a 500, as in TensorFlow Serving


def predict(versions: Versions, spec: model_pb2.ModelSpec, body: bytes) -> dict[str, Any]:
    """Answers `:predict`, rows for `instances` and columns for `inputs`."""
    try:
        request = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise invalid(f"Expected a JSON object in UTF-8. Received: {error}") from error
    if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
        raise invalid('Expected a JSON object with one of "instances" and "inputs"')
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("Expected a text as signature_name")
    with versions.use(spec.name, grpc_service.number_of(spec)) as (_, servable):
        signature = servable.signature(name)
        in_rows = "instances" in request
        values = _columns(request["instances"], signature) if in_rows else _named(request["inputs"], signature)
        outputs = signature(signature.read(values, Spec.from_json))
    lists = {name: signature.outputs[name].to_json(output) for name, output in outputs.items()}
    if not in_rows:
        return {"outputs": _unnamed(lists)}
    if not all(isinstance(rows, list) for rows in lists.values()) or len(set(map(len, lists.values()))) > 1:
        raise invalid('The outputs of this signature are no rows: expected "inputs" in place of "instances"')
    rows = zip(*lists.values(), strict=True)
    return {"predictions": [_unnamed(dict(zip(lists, row, strict=True))) for row in rows]}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON; of a name that comes twice TensorFlow Serving would take the first value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object that has a name twice")
    return found


def _has_names(value: Any) -> bool:
    return isinstance(value, dict) and set(value) != {"b64"}


def _named(value: Any, signature: Signature) -> dict[str, Any]:
    """Returns the inputs by name; the name of a single input may be left out."""
    if _has_names(value):
        return value
    if len(signature.inputs) != 1:
        raise invalid(f"Expected an object with the inputs {', '.join(signature.inputs)}")
    return dict.fromkeys(signature.inputs, value)


def _columns(rows: Any, signature: Signature) -> dict[str, Any]:
    """Returns the inputs by name from rows, which all have names or all have none."""
    if not isinstance(rows, list) or not rows:
        raise invalid('Expected at least one row in the list "instances"')
    if not any(map(_has_names, rows)):
        return _named(rows, signature)
    if not all(_has_names(row) and row.keys() == rows[0].keys() for row in rows):
        raise invalid("Expected the same inputs in every row")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _unnamed(outputs: Mapping[str, Any]) -> Any:
    return outputs if len(outputs) != 1 else next(iter(outputs.values()))


def _status(versions: Versions, spec: model_pb2.ModelSpec) -> dict[str, Any]:
    return _json(grpc_service.status(versions, get_model_status_pb2.GetModelStatusRequest(model_spec=spec)))


def _metadata(versions: Versions, spec: model_pb2.ModelSpec) -> dict[str, Any]:
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    response = grpc_service.metadata(versions, request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {"model_spec": _json(response.model_spec), "metadata": {"signature_def": _json(signatures)}}


def _json(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


_GET: dict[str, Callable[[Versions, model_pb2.ModelSpec], dict[str, Any]]] = {"": _status, "/metadata": _metadata}


class _Handler(BaseHTTPRequestHandler):
    """One connection, one thread."""

    server: RestServer
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds of silence that end a connection
    wbufsize = 1 << 16  # an answer is one write ...
    disable_nagle_algorithm = True  # ... which leaves at once

    def do_GET(self) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # an unread body would be taken for the next request
        self.do_POST()

    def do_POST(self) -> None:
        try:
            self._answer(HTTPStatus.OK, self._content())
        except Refusal as refusal:
            status = _STATUS.get(refusal.code, HTTPStatus.INTERNAL_SERVER_ERROR)
            self._answer(status, {"error": str(refusal)})
        except Unread as refusal:
            self.send_error(refusal.status, str(refusal))
        except OSError:
            raise  # of the connection
        except Exception:  # a bug of the server: the client gets an answer, and stderr the traceback
            traceback.print_exc()
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "The server failed; its stderr says why"})

    def _not_allowed(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, f"Expected GET or POST. Received: {self.command}")

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _not_allowed

    def handle_expect_100(self) -> bool:
        """Lets `_proceed` ask for the body after its length is checked."""
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers in JSON a request that the standard library refuses."""
        self.close_connection = True
        self._answer(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing for a request."""

    def _content(self) -> dict[str, Any]:
        """Returns the answer to the request for the model and the action that the path names."""
        match = _PATH.fullmatch(self.path)
        if not match:
            raise Unread(HTTPStatus.NOT_FOUND, f"Expected {_PATHS}. Received: {self.path[:200]}")
        spec = model_pb2.ModelSpec(name=urllib.parse.unquote(match["name"]), version_label=match["label"])
        if match["version"]:
            spec.version.value = int(match["version"])
        if (self.command == "GET") != (match["action"] in _GET):
            expected = "Expected POST for :predict and GET for all else"
            raise Unread(HTTPStatus.METHOD_NOT_ALLOWED, f"{expected}. Received: {self.command}")
        if self.command == "GET":
            return _GET[match["action"]](self.server.versions, spec)
        body = bodies.read(self.headers, self.rfile, self.server.max_bytes, self._proceed)
        return predict(self.server.versions, spec, body)

    def _proceed(self) -> None:
        """Asks for the body of a client that waits for that."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
            self.wfile.flush()

    def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, POST")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class RestServer(ThreadingHTTPServer):
    """The server of the REST protocol; see `GrpcServer`. Too large a body is refused by its Content-Length, unread."""

    daemon_threads = False  # `stop` waits for them
    request_queue_size = 128

    def __init__(self, versions: Versions, host: str, port: int, max_bytes: int) -> None:
        self.versions, self.max_bytes = versions, max_bytes
        self._connections: set[socket.socket] = set()
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise OSError(f"REST cannot listen on {host}:{port}: expected a free port. Received: {error}") from error
        self.port = self.server_address[1]

    def start(self) -> None:
        """Begins to answer."""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}).start()

    def stop(self) -> None:
        """Refuses new requests and waits for the running ones."""
        self.shutdown()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # ends the wait for a next request; answers are still sent
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection after its client has closed it, or after two seconds.

        If it were closed while bytes of a refused body arrive, it would be reset and the client would miss the answer.
        """
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            end = time.monotonic() + 2
            while (left := end - time.monotonic()) > 0:
                request.settimeout(left)
                if not request.recv(1 << 16):
                    break
        self._connections.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs nothing for a client that closes its connection."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
