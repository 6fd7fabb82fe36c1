"""What TensorFlow Serving 2.20 and the local server answer differently: the table of docs/serving.md, row by row.

The column of TensorFlow Serving is read off its sources (`json_tensor.cc`, `http_rest_api_handler.cc`, and TensorFlow's
`tensor.cc`, which `tf.io.parse_tensor` runs here). Against a real server, as in conftest.py, the same tests check it.
The local server is the stricter one: what it answers, TensorFlow Serving answers too.
"""

import json
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf

DOCUMENT = (Path(__file__).parents[2] / "docs/serving.md").read_text()
GRAY = np.full((1, 6, 6, 1), 0.5).tolist()


def of_uint8(value):
    return {"signature_name": "uint8", "inputs": np.full((1, 6, 6, 1), value).tolist()}


GRAY_JSON = json.dumps({"inputs": GRAY})
# For each row of the table: requests, and the status of TensorFlow Serving and of the local server.
REST = [
    ("integers that `uint8` does not hold", [of_uint8(300), of_uint8(-1)], 200, 400),
    ("text behind the JSON object", [GRAY_JSON + "x", GRAY_JSON + GRAY_JSON], 200, 400),
    ("a name twice in an object", [GRAY_JSON[:-1] + f', "inputs": {GRAY}}}'], 200, 400),
    ('a name in `"inputs"` that is no input', [{"inputs": {"pixels": GRAY, "other": 1}}], 200, 400),
    ("bytes that are no UTF-8, inside a string", [b'{"note": "\xff", ' + GRAY_JSON[1:].encode()], 200, 400),
    ("more than 1024 images", [{"inputs": GRAY * 1025}], 200, 400),
]


@pytest.mark.parametrize(("row", "contents", "theirs", "ours"), REST, ids=[row for row, *_ in REST])
def test_rest(server, row, contents, theirs, ours):
    assert f"| {row} |" in DOCUMENT
    for content in contents:
        body = content if isinstance(content, str | bytes) else json.dumps(content)
        response = requests.post(f"{server.url}:predict", body, timeout=20)
        assert response.status_code == (ours if server.ours else theirs), response.text
        assert server.ours == ("error" in response.json())


def test_the_local_server_says_what_the_other_one_does(own_server):
    response = requests.post(f"{own_server.url}:predict", json=of_uint8(300), timeout=20)
    assert "TensorFlow Serving takes others too and keeps their lowest bits. Received" in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "theirs", "ours"),
    [("PUT", ":predict", 400, 405), ("POST", "/metadata", 400, 405), ("POST", ":predict?x=1", 400, 404)],
)
def test_requests_for_nothing(server, method, path, theirs, ours):
    assert "| a path that is none, or another method |" in DOCUMENT
    response = requests.request(method, server.url + path, data=GRAY_JSON, timeout=20)
    assert response.status_code == (ours if server.ours else theirs)


def tensor(values, size=3):
    """Returns the message of uint8 values `(size,)`."""
    message = tf.make_tensor_proto(np.zeros(size, "uint8"))
    message.tensor_content = b""
    message.int_val.extend(values)
    return message


GRPC = [
    ("integers that `uint8` does not hold", [300, -1, 255], [44, 255, 255]),
    ("fewer values than the shape has, but not one", [7, 8], [7, 8, 8]),
    ("no values", [], [0, 0, 0]),
    ("more values than the shape has", [1, 2, 3, 4], [1, 2, 3]),
]


@pytest.mark.parametrize(("row", "values", "read"), GRPC, ids=[row for row, *_ in GRPC])
def test_grpc(server, row, values, read):
    assert f"| {row} |" in DOCUMENT
    assert tf.io.parse_tensor(tensor(values).SerializeToString(), tf.uint8).numpy().tolist() == read
    request = server.request("uint8", pixels=np.zeros((1, 6, 6, 1), "uint8"))
    pixels = request.inputs["pixels"]
    pixels.tensor_content = b""
    pixels.int_val.extend(values + [values[-1]] * 33 if len(values) > 2 else values)
    with server.stub() as stub:
        if server.ours:
            with pytest.raises(grpc.RpcError) as error:
                stub.Predict(request)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        else:
            assert stub.Predict(request).outputs["label"].int64_val


def test_a_bomb_by_grpc(start_server):
    """gRPC unpacks no more than the largest message, whatever arrives."""
    server = start_server("--max_megabytes=1")
    with grpc.insecure_channel(server.grpc_address, compression=grpc.Compression.Gzip) as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as error:
            predict(bytes(20 << 20), timeout=20)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
