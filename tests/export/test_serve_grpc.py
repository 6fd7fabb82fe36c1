"""The gRPC protocol, against the server under test: right answers to right requests, its own codes for the others."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

import tfrobust

NAMES = {"logits", "probabilities", "label"}


def arrays(response):
    return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}


def refused(server, request, code, words="", method="Predict"):
    codes = code if isinstance(code, tuple) else (code,)
    with server.stub() as stub, pytest.raises(grpc.RpcError) as error:
        getattr(stub, method)(request, timeout=20)
    assert error.value.code() in codes, error.value
    assert words in error.value.details()


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


def test_predict(server, pixels):
    x, logits, labels = pixels
    with server.stub() as stub:
        response = stub.Predict(server.request(pixels=x))
    outputs = arrays(response)
    assert outputs.keys() == NAMES
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-6)
    np.testing.assert_allclose(outputs["probabilities"], tf.nn.softmax(logits), atol=1e-6)
    np.testing.assert_array_equal(outputs["label"], labels)
    assert {value.dtype.name for value in outputs.values()} == {"float32", "int64"}
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (server.name, 1, "serving_default")
    assert len(response.outputs["logits"].float_val) == 12  # where clients in other languages look


def test_signatures(server, pixels, pictures):
    encoded, fractions = pictures
    with server.stub() as stub:
        only = arrays(stub.Predict(server.request("logits", pixels=pixels[0])))
        decoded = arrays(stub.Predict(server.request("predict_bytes", image_bytes=encoded)))
        whole = arrays(stub.Predict(server.request("uint8", pixels=np.round(fractions * 255).astype("uint8"))))
        expected = arrays(stub.Predict(server.request("serving_default", version=1, pixels=fractions)))
    assert only.keys() == {"logits"}
    for outputs in (decoded, whole):
        for name in NAMES:
            np.testing.assert_allclose(outputs[name], expected[name], atol=1e-6)


def test_every_way_to_write_a_tensor(server, pixels):
    """As content, as values, and one value for all."""
    gray = np.full_like(pixels[0], 0.5)
    content, values, one = (server.request("logits", pixels=gray) for _ in range(3))
    assert content.inputs["pixels"].tensor_content
    values.inputs["pixels"].tensor_content = one.inputs["pixels"].tensor_content = b""
    values.inputs["pixels"].float_val.extend(gray.ravel().tolist())
    one.inputs["pixels"].float_val.append(0.5)
    with server.stub() as stub:
        for request in (content, values, one):
            np.testing.assert_allclose(arrays(stub.Predict(request))["logits"], np.full((3, 4), 0.5), atol=1e-6)
    integers = server.request("uint8", pixels=np.zeros((1, 6, 6, 1), "uint8"))
    integers.inputs["pixels"].tensor_content = b""
    integers.inputs["pixels"].int_val.extend([255] * 36)
    with server.stub() as stub:
        np.testing.assert_allclose(arrays(stub.Predict(integers))["logits"], np.ones((1, 4)), atol=1e-6)


def test_the_output_filter(server, pixels):
    request = server.request(pixels=pixels[0])
    request.output_filter.append("label")
    with server.stub() as stub:
        assert arrays(stub.Predict(request)).keys() == {"label"}
    request.output_filter.append("label")
    refused(server, request, INVALID)
    del request.output_filter[:]
    request.output_filter.append("logit")
    refused(server, request, INVALID)


def test_metadata(server):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = server.name
    with server.stub() as stub:
        response = stub.GetModelMetadata(request)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    assert response.model_spec.version.value == 1
    assert {"serving_default", "uint8", "logits", "predict_bytes"} <= set(found.signature_def)
    pixels = found.signature_def["serving_default"].inputs["pixels"]
    assert [dim.size for dim in pixels.tensor_shape.dim] == [-1, 6, 6, 1]
    assert pixels.dtype == tf.float32.as_datatype_enum
    assert set(found.signature_def["serving_default"].outputs) == NAMES
    request.metadata_field[0] = "weights"
    refused(server, request, INVALID, method="GetModelMetadata")
    request.metadata_field[0] = "signature_def"
    request.model_spec.name = "other"
    refused(server, request, NOT_FOUND, method="GetModelMetadata")


def test_status(server):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = server.name
    with server.model_stub() as stub:
        (version,) = stub.GetModelStatus(request).model_version_status
        assert (version.version, version.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        assert version.status.error_code == 0
        request.model_spec.version.value = 9
        with pytest.raises(grpc.RpcError) as error:
            stub.GetModelStatus(request)
        assert error.value.code() == NOT_FOUND


def test_what_is_not_there(server, pixels):
    request = server.request(version=9, pixels=pixels[0])
    refused(server, request, NOT_FOUND)
    request = server.request(pixels=pixels[0])
    request.model_spec.name = "other"
    refused(server, request, NOT_FOUND)
    missing = (grpc.StatusCode.FAILED_PRECONDITION, INVALID)
    refused(server, server.request("serving", pixels=pixels[0]), missing)
    request = server.request(pixels=pixels[0])
    request.model_spec.version_label = "canary"
    refused(server, request, missing)
    with server.channel() as channel:
        for method in ("PredictionService/Explain", "ModelService/Reload"):
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary(f"/tensorflow.serving.{method}")(b"")
            assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("", {}),
        ("", {"pixel": np.zeros((1, 6, 6, 1), "float32")}),
        ("", {"pixels": np.zeros((1, 6, 6, 1), "float32"), "more": np.zeros(1)}),
        ("", {"pixels": np.zeros((1, 6, 6, 1), "float64")}),
        ("uint8", {"pixels": np.zeros((1, 6, 6, 1), "float32")}),
        ("", {"pixels": np.zeros((1, 6, 5, 1), "float32")}),
        ("", {"pixels": np.zeros((6, 6, 1), "float32")}),
        ("", {"pixels": np.zeros((0, 6, 6, 1), "float32")}),
        ("", {"pixels": np.full((1, 6, 6, 1), np.nan, "float32")}),
        ("", {"pixels": np.full((1, 6, 6, 1), np.inf, "float32")}),
        ("", {"pixels": np.full((1, 6, 6, 1), 1.01, "float32")}),
        ("", {"pixels": np.full((1, 6, 6, 1), -0.01, "float32")}),
        ("predict_bytes", {"image_bytes": [b""]}),
        ("predict_bytes", {"image_bytes": [b"GIF89a" + bytes(100)]}),
        ("predict_bytes", {"image_bytes": np.zeros((0,), object)}),
        ("predict_bytes", {"image_bytes": [[b"a"]]}),
    ],
)
def test_bad_values(server, signature, inputs):
    refused(server, server.request(signature, **inputs), INVALID)


def test_bad_pictures(server, pictures, bomb):
    encoded, _ = pictures
    for bad in (encoded[0][:40], encoded[0][:12], bomb, b"\xff\xd8\xff" + bytes(20)):
        refused(server, server.request("predict_bytes", image_bytes=[encoded[1], bad]), INVALID)
    with server.stub() as stub:  # and the server goes on
        assert len(stub.Predict(server.request("predict_bytes", image_bytes=encoded)).outputs) == 3


def test_dims_are_checked_before_a_tensor_is_made(own_server):
    """67 bytes that would become 10 GB, and dims that overflow."""
    for dims in ([400000, 32, 32, 3], [2**40, 6, 6, 1], [2**31, 2**31, 2, 1], [-1, 6, 6, 1], [2**62, 6, 6, 4], []):
        request = own_server.request()
        tensor = request.inputs["pixels"]
        tensor.dtype = tf.float32.as_datatype_enum
        tensor.float_val.append(0.5)
        for size in dims:
            tensor.tensor_shape.dim.add(size=size)
        refused(own_server, request, INVALID)


def test_content_is_as_long_as_the_dims_say(server):
    request = server.request(pixels=np.zeros((2, 6, 6, 1), "float32"))
    request.inputs["pixels"].tensor_content += b"1"
    refused(server, request, INVALID)
    request.inputs["pixels"].tensor_content = request.inputs["pixels"].tensor_content[:-5]
    refused(server, request, INVALID)


def test_our_limits(own_server, pictures):
    """Those that TensorFlow Serving sets otherwise or not at all."""
    gray = np.full((1024, 6, 6, 1), 0.5, "float32")
    with own_server.stub() as stub:
        assert len(stub.Predict(own_server.request(pixels=gray)).outputs["label"].int64_val) == 1024
    more = np.concatenate([gray, gray[:1]])
    refused(own_server, own_server.request(pixels=more), INVALID, "a batch of at most 1024. Received: 1025")
    encoded = own_server.request("predict_bytes", image_bytes=pictures[0][:1] * 1025)
    refused(own_server, encoded, INVALID, "a batch of at most 1024")
    few = own_server.request(pixels=gray)
    few.inputs["pixels"].tensor_content = b""
    refused(own_server, few, INVALID, "Received: 0")
    few.inputs["pixels"].float_val.extend([0.5, 0.5])
    refused(own_server, few, INVALID, "expected 36864 values in float_val")
    few.inputs["pixels"].tensor_shape.unknown_rank = True
    refused(own_server, few, INVALID, "unknown rank")
    integers = own_server.request("uint8", pixels=np.zeros((1, 6, 6, 1), "uint8"))
    integers.inputs["pixels"].tensor_content = b""
    integers.inputs["pixels"].int_val.append(256)
    refused(own_server, integers, INVALID, "expected values that uint8 holds")
    large = own_server.request("predict_bytes", image_bytes=[bytes(65 << 20)])
    refused(own_server, large, grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_bytes_that_are_no_message(own_server):
    with own_server.channel() as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as error:
            predict(b"\xff\xff\xff")
    assert (error.value.code(), error.value.details()) == (INVALID, "Expected a PredictRequest")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_served_model_is_evaluated_as_a_classifier(server, scheme):
    host = server.grpc_address if scheme == "grpc" else server.rest.removeprefix("http://")
    opened = tfrobust.classifiers.open(f"{scheme}://{host}/{server.name}/1")
    assert opened.input_shape == (None, 6, 6, 1) and opened.classes == 4
    x = np.full((4, 6, 6, 1), 0.3, "float32")
    y = np.arange(4)
    for image, label in zip(x, y, strict=True):
        row, column = 3 * (label // 2), 3 * (label % 2)
        image[row : row + 3, column : column + 3] = 0.6
    options = {"attacks": [tfrobust.attacks.square(0.2, queries=50)], "probes": 0, "verbose": False}
    report = tfrobust.evaluate(opened, (x, y), eps=0.2, **options)
    assert report.clean_accuracy == 1.0 and report.robust_accuracy < 1.0
