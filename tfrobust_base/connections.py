"""Clients of the two protocols of TensorFlow Serving: one class each, with the same methods."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np


class ServingError(OSError):
    """Is raised for a request without an answer; `code` is gRPC's name of the status."""

    def __init__(self, text: str, code: str = ""):
        super().__init__(text)
        self.code = code


ADVICE = {
    "UNAVAILABLE": "expected a server there, such as `tfrobust serve --model=DIR`, and its own protocol",
    "NOT_FOUND": "expected a model, a version and a signature that the server has: see --name, --version, --signature",
    "INVALID_ARGUMENT": "expected the inputs that the signature reads",
    "DEADLINE_EXCEEDED": "expected an answer in time: raise --timeout or lower --batch_size",
    "RESOURCE_EXHAUSTED": "expected a smaller request: lower --batch_size",
}


def refusal(address: str, code: str, says: str) -> ServingError:
    """Returns the error of a request: one line with an advice."""
    return ServingError(f"{address}: {code}: {ADVICE.get(code, 'expected an answer')}. Received: {says}", code)


class Model(NamedTuple):
    """A model of a server: its name, and the number or label of a version; "" is the latest."""

    name: str
    version: str = ""


class Grpc:
    """A connection to a server's model by the gRPC protocol with the official stubs, for one thread."""

    def __init__(self, server: str, model: Model, timeout: float):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self.address, self.model, self.timeout = urlsplit(server).netloc, model, timeout
        options = [("grpc.max_receive_message_length", -1)]  # its default is 4 MB
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(self.address, options))

    def prepare(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Any:
        """Returns a `PredictRequest` of `inputs` by name, each (batch, ...); strings are an array of `bytes`."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._specify(request.model_spec)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        return request

    def send(self, request: Any, single: str = "") -> dict[str, np.ndarray]:
        """Returns the outputs by name, each (batch, ...); a refusal or no answer is a `ServingError`.

        `single` is the name of the signature's only output, which the REST protocol does not send.
        """
        import tensorflow as tf

        answer = self._call(self._stub.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}

    def signatures(self) -> Any:
        """Returns the model's `SignatureDefMap`."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._specify(request.model_spec)
        found = get_model_metadata_pb2.SignatureDefMap()
        self._call(self._stub.GetModelMetadata, request).metadata["signature_def"].Unpack(found)
        return found

    def _specify(self, spec: Any) -> None:
        spec.name = self.model.name
        if self.model.version.isdecimal():
            spec.version.value = int(self.model.version)
        elif self.model.version:
            spec.version_label = self.model.version

    def _call(self, method: Any, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise refusal(self.address, error.code().name, error.details()) from error


class Rest:
    """A connection by the REST protocol, JSON with columns and bytes in base64; see `Grpc`."""

    # gRPC's names of the statuses that TensorFlow Serving sends.
    CODES: ClassVar[dict[int, str]] = {
        HTTPStatus.BAD_REQUEST: "INVALID_ARGUMENT",
        HTTPStatus.NOT_FOUND: "NOT_FOUND",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RESOURCE_EXHAUSTED",
        HTTPStatus.TOO_MANY_REQUESTS: "RESOURCE_EXHAUSTED",
        HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
        HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
    }

    def __init__(self, server: str, model: Model, timeout: float):
        import requests

        self.address, self.timeout = server.rstrip("/"), timeout
        kind = "versions" if model.version.isdecimal() else "labels"
        version = f"/{kind}/{quote(model.version, safe='')}" if model.version else ""
        self._url = f"{self.address}/v1/models/{quote(model.name, safe='')}{version}"
        self._session = requests.Session()  # keeps its connections

    def prepare(self, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
        """Returns the body of a request; see `Grpc.prepare`."""
        columns = {name: [_in_json(value) for value in values.tolist()] for name, values in inputs.items()}
        return json.dumps({"signature_name": signature, "inputs": columns}).encode()

    def send(self, request: bytes, single: str = "") -> dict[str, np.ndarray]:
        """Returns the outputs; see `Grpc.send`."""
        outputs = self._call("POST", ":predict", request).get("outputs")
        if single and isinstance(outputs, list):
            outputs = {single: outputs}
        if not isinstance(outputs, dict):
            raise refusal(self.address, "INVALID_ARGUMENT", f"an answer without outputs by name: {outputs!r:.200}")
        return {name: np.asarray(values) for name, values in outputs.items()}

    def signatures(self) -> Any:
        """Returns the model's `SignatureDefMap`."""
        from google.protobuf import json_format
        from tensorflow_serving.apis import get_model_metadata_pb2

        found = self._call("GET", "/metadata")["metadata"]["signature_def"]
        return json_format.ParseDict(found, get_model_metadata_pb2.SignatureDefMap(), ignore_unknown_fields=True)

    def _call(self, method: str, action: str, body: bytes | None = None) -> dict[str, Any]:
        import requests

        try:
            answer = self._session.request(method, self._url + action, data=body, timeout=self.timeout)
        except requests.Timeout as error:
            raise refusal(self.address, "DEADLINE_EXCEEDED", f"no answer within {self.timeout:g} s") from error
        except requests.RequestException as error:
            raise refusal(self.address, "UNAVAILABLE", f"{type(error).__name__}: {error}") from error
        content = None
        with contextlib.suppress(requests.JSONDecodeError):
            content = answer.json()
        if not isinstance(content, dict):
            says = f"status {answer.status_code} and no JSON object: {answer.text[:200]!r}"
            raise refusal(self.address, "UNAVAILABLE", says)
        if answer.status_code != HTTPStatus.OK:
            code = self.CODES.get(answer.status_code, f"status {answer.status_code}")
            raise refusal(self.address, code, content.get("error", content))
        return content


def _in_json(value: Any) -> Any:
    return {"b64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


Connection = Grpc | Rest
PROTOCOLS: dict[str, type[Connection]] = {"grpc": Grpc, "http": Rest, "https": Rest}


def check_server(server: str) -> None:
    """Raises a `ValueError` if an address lacks a protocol, a host or a port."""
    parts = urlsplit(server)
    if parts.scheme not in PROTOCOLS or not parts.hostname or parts.port is None:
        raise ValueError(f"Expected --server=SCHEME://HOST:PORT with one of {', '.join(PROTOCOLS)}. Received: {server}")


def connect(server: str, model: Model, timeout: float = 10.0) -> Connection:
    """Returns a connection, which sends nothing yet, to "grpc://HOST:PORT", "http://HOST:PORT" or "https://HOST:PORT"."""
    check_server(server)
    return PROTOCOLS[urlsplit(server).scheme](server, model, timeout)


def pixel_shape(connection: Connection, signature: str) -> tuple[int, int, int]:
    """Returns the (H, W, C) of the pixels that a signature reads, as the server describes it."""
    known = connection.signatures().signature_def
    if signature not in known or "pixels" not in known[signature].inputs:
        raise ServingError(f"Expected a signature that reads pixels, one of {sorted(known)}. Received: {signature}")
    _, height, width, channels = (dim.size for dim in known[signature].inputs["pixels"].tensor_shape.dim)
    return height, width, channels
