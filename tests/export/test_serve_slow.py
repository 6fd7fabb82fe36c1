"""Our server for minutes: bodies of noise, and load; it answers all, and its memory stays as it is."""

import base64
import gzip
import json
import random
import re
import socket
import threading
import time
import urllib.parse
import zlib
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests

pytestmark = pytest.mark.slow

BODIES = 10_000
REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}
TOKENS = [b"[", b"]", b"{", b"}", b'"', b",", b":", b"NaN", b"-1e999", b"null", b"true", b'{"b64":"', b"\xff", b"\x00"]
TOKENS += [b'"instances"', b'"inputs"', b"9" * 5000, b"[" * 2000, b"\x80\x80\x80\x80\x08", b"\xff" * 9 + b"\x01"]


def megabytes(server, figure="VmRSS"):
    """Returns what the kernel says of the server's memory; VmHWM is its highest."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(rf"{figure}:\s+(\d+) kB", text)[1]) / 1024


def mutated(valid, chance):
    """Returns noise, or a valid body after some accidents."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(300))
    body = bytearray(chance.choice(valid))
    for _ in range(chance.randrange(1, 5)):
        at, end = sorted(chance.randrange(len(body) + 1) for _ in range(2))
        match chance.randrange(5):
            case 0:
                body[at:at] = chance.choice(TOKENS)
            case 1:
                del body[at : min(end, at + 20)]
            case 2:
                body[at:at] = body[at : min(end, at + 20)]
            case 3:
                del body[at:]
            case 4 if body:
                body[chance.randrange(len(body))] = chance.randrange(256)
    return bytes(body)


def fuzz(send, valid, threads=4):
    """Sends all bodies and returns how many were answered in which way; each thread has its own seed."""
    found, failed = [], []

    def run(seed):
        chance = random.Random(seed)
        try:
            for _ in range(BODIES // threads):
                found.append(send(mutated(valid, chance)))
        except Exception as error:
            failed.append(error)

    running = [threading.Thread(target=run, args=(seed,)) for seed in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not failed
    assert len(found) == BODIES
    return {kind: found.count(kind) for kind in set(found)}


def check_well(server, before):
    """Checks that the server is as it was: it answers, found no bug of its own, and took no memory, now or between."""
    with server.stub() as stub:
        response = stub.Predict(server.request("logits", pixels=np.full((1, 6, 6, 1), 0.5, "float32")))
    assert list(response.outputs["logits"].float_val) == pytest.approx([0.5] * 4)
    server.stderr.seek(0)
    assert "Traceback" not in server.stderr.read()
    assert megabytes(server) < before + 200
    assert megabytes(server, "VmHWM") < before + 1000


def test_noise_by_grpc(start_server, pictures, photos):
    server = start_server()
    x = np.full((2, 6, 6, 1), 0.5, "float32")
    requests_ = [
        server.request(pixels=x),
        server.request("uint8", version=1, pixels=x.astype("uint8")),
        server.request("predict_bytes", image_bytes=pictures[0]),
        *(server.request("predict_bytes", image_bytes=[photo]) for photo in photos),
        server.request("logits", pixels=x),
    ]
    values = requests_[-1].inputs["pixels"]
    values.tensor_content = b""
    values.float_val.extend([0.5] * 72)
    valid = [request.SerializeToString() for request in requests_]
    with server.channel() as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

        def send(body):
            try:
                predict(body, timeout=60)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        for body in valid:
            assert send(body) == grpc.StatusCode.OK
        before = megabytes(server)
        kinds = fuzz(send, valid)
    print(kinds)
    assert set(kinds) <= REFUSED | {grpc.StatusCode.OK}
    assert kinds[grpc.StatusCode.INVALID_ARGUMENT] > BODIES / 4
    check_well(server, before)


def wrapped(body):
    """Returns a body as it is, in gzip, in gzip with a damage, or in chunks, and its headers; the bytes decide."""
    number = zlib.crc32(body)
    packed = bytearray(gzip.compress(body, 1))
    match number % 4:
        case 0:
            return body, {}
        case 1:
            return bytes(packed), {"Content-Encoding": "gzip"}
        case 2:
            packed[number // 4 % len(packed)] ^= 1 << number % 8
            return bytes(packed), {"Content-Encoding": "gzip"}
    size = 1 + number // 4 % 1000
    return iter([body[start : start + size] for start in range(0, len(body), size)]), {}


def test_noise_by_rest(start_server, pictures, photos):
    server = start_server()
    x = np.full((2, 6, 6, 1), 0.5).tolist()
    strings = [{"b64": base64.encodebytes(file).decode().rstrip("=\n")} for file in [*pictures[0], *photos]]
    contents = [
        {"instances": x},
        {"inputs": {"pixels": x}, "signature_name": "logits"},
        {"instances": strings, "signature_name": "predict_bytes"},
        {"instances": [{"image_bytes": string} for string in strings], "signature_name": "predict_bytes"},
        {"inputs": np.ones((1, 6, 6, 1), int).tolist(), "signature_name": "uint8"},
    ]
    valid = [json.dumps(content).encode() for content in contents]
    local = threading.local()

    def send(body):
        local.session = getattr(local, "session", None) or requests.Session()
        data, headers = wrapped(body)
        response = local.session.post(f"{server.url}:predict", data=data, headers=headers, timeout=60)
        assert response.json()
        return response.status_code

    for body in valid:
        assert requests.post(f"{server.url}:predict", data=body, timeout=60).status_code == 200
    before = megabytes(server)
    kinds = fuzz(send, valid)
    print(kinds)
    assert set(kinds) <= {200, 400}
    assert kinds[400] > BODIES / 4
    check_well(server, before)


def test_noise_between_chunks(start_server):
    server = start_server()
    at, body = urllib.parse.urlsplit(server.rest), json.dumps({"inputs": np.full((1, 6, 6, 1), 0.5).tolist()}).encode()
    head = f"POST {at.path}/v1/models/{server.name}:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (20, body[:20], len(body) - 20, body[20:])

    def send(body):
        with socket.create_connection((at.hostname, at.port), timeout=60) as connection:
            connection.sendall(head + body)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                return file.read(12)

    assert send(chunks) == b"HTTP/1.1 200"
    before = megabytes(server)
    kinds = fuzz(send, [chunks])
    print(kinds)
    assert set(kinds) <= {b"", *(b"HTTP/1.1 %d" % code for code in (200, 400, 413))}  # nothing: it was cut short
    check_well(server, before)


class Load:
    """Eight clients, half of them on each protocol, in a `with` block; `times` are the seconds of each answer."""

    def __init__(self, server, pictures):
        encoded = pictures[0][0]
        self._server, self._over = server, threading.Event()
        self.times, self.failed = [], []
        self._request = server.request("predict_bytes", image_bytes=[encoded])
        string = {"b64": base64.b64encode(encoded).decode()}
        self._body = json.dumps({"signature_name": "predict_bytes", "instances": [string]})
        self._threads = [threading.Thread(target=client) for client in (self._grpc, self._rest) * 4]

    def _grpc(self):
        with self._server.stub() as stub:
            self._run(lambda: stub.Predict(self._request, timeout=60))

    def _rest(self):
        with requests.Session() as session:
            self._run(lambda: session.post(f"{self._server.url}:predict", self._body, timeout=60).raise_for_status())

    def _run(self, ask):
        while not self._over.is_set():
            start = time.perf_counter()
            try:
                ask()
            except (grpc.RpcError, requests.RequestException) as error:
                self.failed.append(error)
            self.times.append(time.perf_counter() - start)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_a_minute_of_load(start_server, pictures):
    server = start_server()
    with Load(server, pictures) as load:
        time.sleep(15)
        before = megabytes(server)
        time.sleep(45)
        after = megabytes(server)
    p50, p99 = 1000 * np.percentile(load.times, [50, 99])
    memory = f"{before:.0f} MB after 15 s, {after:.0f} MB after 60 s"
    print(f"{len(load.times) / 60:.0f} requests a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {memory}")
    assert not load.failed
    assert after < before + 20


def test_ten_swaps_under_load(start_server, publish_version, pictures):
    server = start_server()
    with Load(server, pictures) as load:
        sizes = []
        for number in range(2, 12):
            publish_version(server, number, source=1)
            server.wait_for(number - 1, "END")
            time.sleep(1)
            sizes.append(megabytes(server))
    print(sizes)
    assert not load.failed
    assert server.states()[11] == "AVAILABLE"
    assert sizes[-1] < sizes[4] + 50  # what is unloaded gives its memory back
