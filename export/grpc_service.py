"""Implements TensorFlow Serving's gRPC protocol with the official messages."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from export.servable import DEFAULT_SIGNATURE, Versions
from export.tensors import Refusal, Spec, invalid

_THREADS = 16


def number_of(spec: model_pb2.ModelSpec) -> int | None:
    """Returns the version that a request names, None for the latest; labels need TensorFlow Serving's configuration."""
    if spec.version_label:
        raise invalid(f"Unrecognized servable version label: {spec.version_label[:100]}. Expected a version's number")
    return spec.version.value if spec.HasField("version") else None


def predict(versions: Versions, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    """Answers `PredictionService/Predict`."""
    spec = request.model_spec
    with versions.use(spec.name, number_of(spec)) as (number, servable):
        signature = servable.signature(spec.signature_name)
        names = list(request.output_filter) or list(signature.outputs)
        if not set(names) <= set(signature.outputs) or len(set(names)) < len(names):
            raise invalid(f"Expected each at most once: outputs {', '.join(signature.outputs)}. Received: {names}")
        outputs = signature(signature.read(request.inputs, Spec.from_proto))
    response = predict_pb2.PredictResponse()
    response.model_spec.name = spec.name
    response.model_spec.version.value = number
    response.model_spec.signature_name = spec.signature_name or DEFAULT_SIGNATURE
    for name in names:
        response.outputs[name].CopyFrom(signature.outputs[name].to_proto(outputs[name]))
    return response


def metadata(
    versions: Versions, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers `PredictionService/GetModelMetadata`: the signatures."""
    if set(request.metadata_field) != {"signature_def"}:
        received = ", ".join(request.metadata_field) or "none"
        raise invalid(f'Expected the metadata_field "signature_def". Received: {received}')
    spec = request.model_spec
    with versions.use(spec.name, number_of(spec)) as (number, servable):
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.definitions)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = spec.name
    response.model_spec.version.value = number
    response.metadata["signature_def"].Pack(signatures)
    return response


def status(
    versions: Versions, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers `ModelService/GetModelStatus` with every version that was ever seen."""
    spec = request.model_spec
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in versions.seen(spec.name, number_of(spec)):
        answer = response.model_version_status.add(version=version.number, state=version.state)
        code = grpc.StatusCode.UNKNOWN if version.error else grpc.StatusCode.OK
        answer.status.error_code, answer.status.error_message = code.value[0], version.error
    return response


class GrpcServer:
    """The server of both services for the versions of a model.

    It binds to a host and a port, of which 0 is a free one, and refuses messages of more than `max_bytes`.
    """

    def __init__(self, versions: Versions, host: str, port: int, max_bytes: int) -> None:
        options = {
            "grpc.so_reuseport": 0,  # otherwise two servers can share a port unnoticed
            "grpc.max_receive_message_length": max_bytes,
            "grpc.max_send_message_length": -1,
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(_THREADS), options=list(options.items()))
        services: dict[str, dict[str, tuple[type[Message], Callable[[Versions, Any], Message]]]] = {
            "PredictionService": {
                "Predict": (predict_pb2.PredictRequest, predict),
                "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, metadata),
            },
            "ModelService": {"GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, status)},
        }
        for service, methods in services.items():
            handlers = {name: _handler(versions, *method) for name, method in methods.items()}
            generic = grpc.method_handlers_generic_handler(f"tensorflow.serving.{service}", handlers)
            self._server.add_generic_rpc_handlers((generic,))
        try:
            self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {host}:{port}: expected a free port. Received: {error}") from error

    def start(self) -> None:
        """Begins to answer."""
        self._server.start()

    def stop(self, seconds: float) -> None:
        """Refuses new requests and waits for the running ones, at most so many seconds."""
        self._server.stop(seconds).wait()


def _handler(
    versions: Versions, request_type: type[Message], answer: Callable[[Versions, Any], Message]
) -> grpc.RpcMethodHandler:
    """Returns the handler of a method, which parses the bytes itself: gRPC would answer invalid ones with INTERNAL."""

    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return answer(versions, request_type.FromString(body)).SerializeToString()
        except Refusal as refusal:
            context.abort(refusal.code, str(refusal))
        except DecodeError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Expected a {request_type.DESCRIPTOR.name}")
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(handle)
