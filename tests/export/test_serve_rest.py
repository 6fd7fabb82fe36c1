"""The REST protocol, against the server under test: right answers to right requests, its own codes for the others."""

import base64
import gzip
import json
import socket
import urllib.parse

import numpy as np
import pytest
import requests
import tensorflow as tf

NAMES = {"logits", "probabilities", "label"}
GRAY = np.full((1, 6, 6, 1), 0.5).tolist()


def post(server, content, path="", **options):
    body = content if isinstance(content, bytes | str) else json.dumps(content)
    return requests.post(f"{server.url}{path}:predict", data=body, timeout=20, **options)


def answer(server, content, path=""):
    response = post(server, content, path)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/json"
    return response.json()


def refused(response, code, words=""):
    assert response.status_code == code, response.text
    assert words in response.json()["error"]


def b64(encoded):
    return {"b64": base64.b64encode(encoded).decode()}


def talk(server, request):
    """Sends bytes, says that no more come and returns what comes back."""
    at = urllib.parse.urlsplit(server.rest)
    with socket.create_connection((at.hostname, at.port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            return file.read()


def test_rows_and_columns(server, pixels):
    x, logits, labels = pixels
    rows = answer(server, {"instances": x.tolist()})
    assert rows.keys() == {"predictions"}
    assert all(row.keys() == NAMES for row in rows["predictions"])
    columns = answer(server, {"inputs": x.tolist()})["outputs"]
    assert columns.keys() == NAMES
    for name in NAMES:
        assert columns[name] == [row[name] for row in rows["predictions"]]
    np.testing.assert_allclose(columns["logits"], logits, atol=1e-6)
    np.testing.assert_allclose(columns["probabilities"], tf.nn.softmax(logits), atol=1e-6)
    assert columns["label"] == labels.tolist()
    assert all(type(label) is int for label in columns["label"])


def test_named_inputs_and_a_single_output(server, pixels):
    x, logits, _ = pixels
    named = [{"pixels": image.tolist()} for image in x]
    for content in ({"instances": named}, {"instances": x.tolist()}):
        found = answer(server, {**content, "signature_name": "logits"}, "/versions/1")["predictions"]
        np.testing.assert_allclose(found, logits, atol=1e-6)
    for content in ({"inputs": {"pixels": x.tolist()}}, {"inputs": x.tolist()}):
        found = answer(server, {**content, "signature_name": "logits"})["outputs"]
        np.testing.assert_allclose(found, logits, atol=1e-6)


def test_base64(server, pictures):
    encoded, fractions = pictures
    expected = answer(server, {"inputs": fractions.tolist()})["outputs"]
    strings = [b64(file) for file in encoded]
    for content in ({"inputs": strings}, {"inputs": {"image_bytes": strings}}):
        found = answer(server, {**content, "signature_name": "predict_bytes"})["outputs"]
        for name in NAMES:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    for rows in (strings, [{"image_bytes": string} for string in strings]):
        found = answer(server, {"instances": rows, "signature_name": "predict_bytes"})["predictions"]
        assert [row["label"] for row in found] == expected["label"]


def test_integers(server):
    found = answer(server, {"signature_name": "uint8", "instances": np.full((1, 6, 6, 1), 255).tolist()})
    np.testing.assert_allclose(found["predictions"][0]["logits"], np.ones(4), atol=1e-6)
    found = answer(server, {"instances": np.ones((1, 6, 6, 1), int).tolist()})  # whole numbers are floats too
    np.testing.assert_allclose(found["predictions"][0]["logits"], np.ones(4), atol=1e-6)


def test_status(server):
    expected = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("", "/versions/1"):
        assert requests.get(server.url + path, timeout=20).json() == {"model_version_status": [expected]}
    refused(requests.get(f"{server.url}/versions/9", timeout=20), 404)
    refused(requests.get(f"{server.rest}/v1/models/other", timeout=20), 404)


def test_metadata(server):
    for path in ("/metadata", "/versions/1/metadata"):
        found = requests.get(server.url + path, timeout=20).json()
        assert found["model_spec"] == {"name": server.name, "signature_name": "", "version": "1"}
        signatures = found["metadata"]["signature_def"]["signature_def"]
        pixels = signatures["serving_default"]["inputs"]["pixels"]
        assert pixels["dtype"] == "DT_FLOAT"
        assert [dim["size"] for dim in pixels["tensor_shape"]["dim"]] == ["-1", "6", "6", "1"]
        assert signatures["predict_bytes"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    refused(requests.get(f"{server.url}/versions/9/metadata", timeout=20), 404)


def test_what_is_not_there(server):
    refused(post(server, {"instances": GRAY}, "/versions/9"), 404)
    refused(requests.post(f"{server.rest}/v1/models/other:predict", json={"instances": GRAY}, timeout=20), 404)
    refused(post(server, {"instances": GRAY, "signature_name": "serving"}), 400)
    refused(post(server, {"instances": GRAY}, "/labels/canary"), 400)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        b"\xff\xfe\xfd",
        {},
        {"inputs": GRAY, "instances": GRAY},
        {"instances": []},
        {"instances": {}},
        {"instances": 0.5},
        {"instances": GRAY, "signature_name": 3},
        {"inputs": {"pixel": GRAY}},
        {"inputs": {}},
        {"instances": [{"pixel": GRAY[0]}]},
        {"instances": [{"pixels": GRAY[0]}, {"other": GRAY[0]}]},
        {"instances": [{"pixels": GRAY[0]}, GRAY[0]]},
        {"instances": GRAY[0]},
        {"inputs": []},
        {"inputs": [GRAY[0], GRAY[0][:5]]},
        {"inputs": [[*GRAY[0][:5], GRAY[0][5][:5]]]},
        {"inputs": [[*GRAY[0][:5], 0.5]]},
        {"inputs": np.full((1, 6, 6, 1), "0.5").tolist()},
        {"inputs": np.full((1, 6, 6, 1), None).tolist()},
        {"inputs": np.full((1, 6, 6, 1), True).tolist()},
        {"inputs": np.full((1, 6, 6, 1), {"b64": ""}).tolist()},
        {"inputs": np.full((1, 6, 6, 1), np.nan).tolist()},
        {"inputs": np.full((1, 6, 6, 1), np.inf).tolist()},
        {"inputs": np.full((1, 6, 6, 1), 1.01).tolist()},
        {"inputs": np.full((1, 6, 6, 1), -0.01).tolist()},
        {"inputs": np.full((1, 6, 6, 1), 1e300).tolist()},
        {"inputs": np.full((1, 6, 6, 1), 10**400, object).tolist()},
        {"signature_name": "uint8", "inputs": GRAY},
        {"signature_name": "predict_bytes", "inputs": ["text"]},
        {"signature_name": "predict_bytes", "inputs": [1]},
        {"signature_name": "predict_bytes", "inputs": ["\ud800"]},
        {"signature_name": "predict_bytes", "inputs": [{"b64": "?"}]},
        {"signature_name": "predict_bytes", "inputs": [{"b64": 1}]},
        {"signature_name": "predict_bytes", "inputs": [{"b64": "", "more": ""}]},
    ],
)
def test_bad_values(server, content):
    refused(post(server, content), 400)


def test_bad_pictures(server, pictures, bomb):
    encoded, _ = pictures
    for bad in (encoded[0][:40], encoded[0][:12], bomb, b"", b"\xff\xd8\xff" + bytes(20)):
        refused(post(server, {"signature_name": "predict_bytes", "inputs": [b64(encoded[1]), b64(bad)]}), 400)
    answer(server, {"signature_name": "predict_bytes", "inputs": [b64(file) for file in encoded]})


def test_a_connection_is_kept(server):
    with requests.Session() as session:
        for content in ({"instances": GRAY}, {"instances": []}, {"instances": GRAY}):
            response = session.post(f"{server.url}:predict", json=content, timeout=20)
            assert response.headers.get("Connection", "keep-alive").lower() == "keep-alive"


def test_our_limits(own_server):
    answer(own_server, {"inputs": GRAY * 1024})
    refused(post(own_server, {"inputs": GRAY * 1025}), 400, "a batch of at most 1024. Received: 1025")
    for nested in ("[" * 100_000, "[" * 500 + "]" * 500 + "}"):
        refused(post(own_server, '{"instances": ' + nested), 400)
    refused(post(own_server, {"signature_name": "uint8", "inputs": np.full((1, 6, 6, 1), 256).tolist()}), 400, "uint8")


def test_paths_and_methods(own_server):
    for path in ("/", "/v1/models", "/v1/models/", "/v2/models/tiny", "/v1/models/tiny/versions/x", "//[", "/%ff%zz"):
        refused(requests.get(own_server.rest + path, timeout=20), 404, "Expected /v1/models/NAME")
    for method, path in (
        ("GET", ":predict"),
        ("POST", ""),
        ("POST", "/metadata"),
        ("PUT", ":predict"),
        ("DELETE", ""),
        ("PATCH", ""),
        ("OPTIONS", ""),
    ):
        response = requests.request(method, own_server.url + path, data="{}", timeout=20)
        refused(response, 405, "Expected")
        assert response.headers["Allow"] == "GET, POST"
    assert requests.head(own_server.url, timeout=20).status_code == 405
    for path in ("?x=1", ":predict?x=1"):  # TensorFlow Serving takes a query for a part of the path
        assert requests.get(own_server.url + path, timeout=20).status_code == 404


def test_bodies_that_are_not_framed(own_server):
    path = f"/v1/models/{own_server.name}:predict"
    for headers, code in (
        ("", 411),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: x\r\n", 400),
        ("Content-Length: 2\r\nContent-Length: 3\r\n", 400),
        (f"Content-Length: {1 << 30}\r\n", 413),
        (f"Content-Length: {1 << 30}\r\nExpect: 100-continue\r\n", 413),
        (f"Content-Length: {'9' * 18}\r\n", 413),
    ):
        head, _, body = talk(own_server, f"POST {path} HTTP/1.1\r\n{headers}\r\n".encode()).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {code} ".encode()), head
        assert b"Connection: close" in head
        assert json.loads(body).keys() == {"error"}


def test_a_body_that_is_too_large_gets_its_answer_while_it_is_sent(own_server):
    refused(post(own_server, bytes(65 << 20)), 413, "at most 67108864 bytes. Received: 68157440")


def in_chunks(body, size=7):
    """Returns a body in chunks, with a trailer behind them."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nX-Sum: 1\r\n\r\n"


def test_bodies_in_chunks(server):
    body = json.dumps({"instances": GRAY}).encode()
    expected = answer(server, body)
    with requests.Session() as session:  # the connection is kept: nothing of a body is left for the next request
        for _ in range(2):
            chunked = iter([body[:5], body[5:100], body[100:]])
            assert session.post(f"{server.url}:predict", data=chunked, timeout=20).json() == expected
    head = f"POST /v1/models/{server.name}:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    found = talk(server, head.encode() + b"Transfer-Encoding: Chunked\r\n\r\n" + in_chunks(body))
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("chunks", "code"),
    [
        (b"x\r\n{}\r\n0\r\n\r\n", 400),
        (b"2;x=1\r\n{}\r\n0\r\n\r\n", 400),
        (b"-2\r\n{}\r\n0\r\n\r\n", 400),
        (b"\r\n", 400),
        (b"1\r\n{}\r\n0\r\n\r\n", 400),
        (b"0\r\n" + b"a: b\r\n" * 200 + b"\r\n", 400),
        (b"a" * 5000 + b"\r\n", 400),
        (b"%x\r\n" % (65 << 20), 413),
        (b"f" * 15 + b"\r\n", 413),
        (b"f" * 16 + b"\r\n", 400),
    ],
)
def test_chunks_that_are_none(own_server, chunks, code):
    head = f"POST /v1/models/{own_server.name}:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    head, _, body = talk(own_server, head.encode() + chunks).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {code} ".encode()), head
    assert b"Connection: close" in head
    assert json.loads(body).keys() == {"error"}


def test_bodies_in_gzip(server):
    body = json.dumps({"instances": GRAY}).encode()
    expected, packed = answer(server, body), gzip.compress(body)
    for data in (packed, iter([packed[:50], packed[50:]])):
        response = requests.post(f"{server.url}:predict", data, headers={"Content-Encoding": "gzip"}, timeout=20)
        assert response.json() == expected
    damaged = packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:]
    for bad in (body, b"", packed[:-1], packed[:50], damaged, packed + packed, gzip.compress(packed)):
        refused(post(server, bad, headers={"Content-Encoding": "gzip"}), 400)
    refused(post(server, packed, headers={"Content-Encoding": "GZIP"}), 400)  # it looks for small letters
    assert post(server, body, headers={"Content-Encoding": "br"}).status_code == 200  # and ignores all others


def test_a_body_in_gzip_that_would_fill_the_memory(own_server):
    refused(post(own_server, gzip.compress(bytes(200 << 20)), headers={"Content-Encoding": "gzip"}), 400, "unpacked")


# TensorFlow Serving 2.20 decodes by `absl::Base64Unescape`.
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.rstrip("="),
        lambda text: text.replace("=", "."),
        lambda text: "\n".join(text[start : start + 76] for start in range(0, len(text), 76)) + "\n",
        lambda text: "\r\n".join(text[start : start + 64] for start in range(0, len(text), 64)),
        lambda text: " \t\v\f".join(text[:8]) + text[8:],
    ],
)
def test_base64_as_it_is_written(server, pictures, change):
    for file in pictures[0]:
        for end in range(3):  # a length that needs 0, 1 and 2 characters of padding
            text = change(base64.b64encode(file + bytes(end)).decode())
            found = answer(server, {"signature_name": "predict_bytes", "inputs": [{"b64": text}]})
            assert found == answer(server, {"signature_name": "predict_bytes", "inputs": [b64(file)]})


@pytest.mark.parametrize("text", ["A", "AAAAA", "AA=", "AAA==", "AAAA=", "AA===", "A=AA", "AA-_", "AA\u00a0AA", "é"])
def test_what_is_no_base64(server, text):
    refused(post(server, {"signature_name": "predict_bytes", "inputs": [{"b64": text}]}), 400, "")


def test_json_is_in_utf_8(server):
    body = json.dumps({"instances": GRAY})
    expected = answer(server, body)
    assert answer(server, body.encode("utf-8-sig")) == expected
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"):
        refused(post(server, body.encode(encoding)), 400)


def test_a_body_that_waits_to_be_asked_for(own_server):
    body = json.dumps({"instances": GRAY}).encode()
    head = f"POST /v1/models/{own_server.name}:predict HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode()
    found = talk(own_server, head + b"Expect: 100-continue\r\nConnection: close\r\n\r\n" + body)
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_what_is_no_http(own_server):
    for request in (b"\r\n", b"\x16\x03\x01", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"BREW /pot HTTP/1.1\r\n\r\n"):
        found = talk(own_server, request)
        assert b"<html" not in found.lower()
    assert b'{"error": "Unsupported method' in found
    assert b"HTTP/1.1 414 " in talk(own_server, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n")


def test_a_body_of_a_get_is_not_the_next_request(own_server):
    found = talk(own_server, b"GET /v1/models/tiny HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert found.count(b"HTTP/1.1 ") == 1


def test_clients_that_hang_up(own_server):
    """In the middle of a request, and before its answer."""
    at = urllib.parse.urlsplit(own_server.rest)
    body = json.dumps({"instances": GRAY * 100}).encode()
    head = f"POST {at.path}/v1/models/{own_server.name}:predict HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    for part in (b"", head[:20].encode(), head.encode(), head.encode() + body[:100], head.encode() + body):
        with socket.create_connection((at.hostname, at.port), timeout=20) as connection:
            connection.sendall(part)
    answer(own_server, {"instances": GRAY})
    own_server.stderr.seek(0)
    assert "Traceback" not in own_server.stderr.read()
