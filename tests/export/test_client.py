"""The client: both protocols say the same, mistakes are one line, a comparison and a load test count what happens.

The servers are small fakes made of the official stubs and of the REST documentation, not `tfrobust serve`: that a
client and a server of ours agree would not show that either speaks TensorFlow Serving's protocol.
"""

import base64
import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from PIL import Image
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from export import client
from export.loading import load
from export.logits import compare
from tfrobust_base.connections import Model, ServingError, connect, pixel_shape

SHAPE = (6, 6, 1)
WEIGHTS = np.random.default_rng(3).normal(size=(36, 4)).astype("float32")
SIGNATURES = {"predict_bytes": ("image_bytes", tf.string), "serving_default": ("pixels", tf.float32)}
SIGNATURES["uint8"] = ("pixels", tf.uint8)


class Refused(Exception):
    """A code of gRPC by name, and words."""


def answer(name, version, signature, inputs):
    """What the model says, whatever the protocol: a linear network, whose version 2 has the opposite sign."""
    if name != "toy":
        raise Refused("NOT_FOUND", f"Servable not found for request: Latest({name})")
    if version not in (None, 1, 2, "canary"):
        raise Refused("NOT_FOUND", f"Could not find version {version} of model {name}")
    wanted, dtype = SIGNATURES[signature]
    values = inputs[wanted]
    if dtype is tf.string:
        if b"slow" in values[0]:
            time.sleep(1)
        try:
            values = np.stack([tf.io.decode_png(one, channels=1).numpy() for one in values])
        except tf.errors.InvalidArgumentError as error:
            raise Refused("INVALID_ARGUMENT", "Expected a PNG\nor JPEG picture") from error
    pixels = values.astype("float32") / (1 if dtype is tf.float32 else 255)
    logits = pixels.reshape(-1, 36) @ WEIGHTS * (-1 if version in (2, "canary") else 1)
    return {"logits": logits, "probabilities": tf.nn.softmax(logits).numpy(), "label": logits.argmax(axis=-1)}


def signature_map():
    found = get_model_metadata_pb2.SignatureDefMap()
    for name, (wanted, dtype) in SIGNATURES.items():
        tensor = found.signature_def[name].inputs[wanted]
        tensor.dtype = dtype.as_datatype_enum
        for size in (-1, *SHAPE) if wanted == "pixels" else (-1,):
            tensor.tensor_shape.dim.add(size=size)
    return found


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def Predict(self, request, context):
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else spec.version_label or None
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        try:
            outputs = answer(spec.name, version, spec.signature_name, inputs)
        except Refused as error:
            context.abort(grpc.StatusCode[error.args[0]], error.args[1])
        made = predict_pb2.PredictResponse()
        for name, values in outputs.items():
            made.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        if b"large" in request.SerializeToString():
            made.outputs["more"].CopyFrom(tf.make_tensor_proto(np.zeros(2**21, "float32")))  # 8 MB
        return made

    def GetModelMetadata(self, request, context):
        assert list(request.metadata_field) == ["signature_def"]
        made = get_model_metadata_pb2.GetModelMetadataResponse()
        made.metadata["signature_def"].Pack(signature_map())
        return made


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path, _, verb = self.path.partition(":")
        _, _, _, name, *version = path.split("/")
        assert (verb, set(body), path.split("/")[1:3]) == ("predict", {"signature_name", "inputs"}, ["v1", "models"])
        kind, version = version or ("versions", None)
        version = int(version) if version and kind == "versions" else version
        ((wanted, column),) = body["inputs"].items()
        if wanted.endswith("_bytes"):
            values = np.array([base64.b64decode(one["b64"], validate=True) for one in column], object)
        else:
            values = np.array(column)
        try:
            outputs = answer(name, version, body["signature_name"], {wanted: values})
            self._send(200, {"outputs": {name: values.tolist() for name, values in outputs.items()}})
        except Refused as error:
            self._send({"NOT_FOUND": 404, "INVALID_ARGUMENT": 400}[error.args[0]], {"error": error.args[1]})

    def do_GET(self):
        assert self.path.endswith("/metadata")
        found = json_format.MessageToDict(signature_map(), preserving_proto_field_name=True)
        self._send(200, {"model_spec": {"name": "toy"}, "metadata": {"signature_def": {**found, "of_later": 1}}})

    def _send(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(handler):
    rest = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    rest.handle_error = lambda *_: None  # a client that gave up
    thread = threading.Thread(target=rest.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{rest.server_port}"
    finally:
        rest.shutdown()
        thread.join()
        rest.server_close()


@pytest.fixture(scope="module")
def servers():
    """The addresses of the two."""
    rpc = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(), rpc)
    port = rpc.add_insecure_port("127.0.0.1:0")
    rpc.start()
    with serving(Handler) as address:
        yield {"grpc": f"grpc://127.0.0.1:{port}", "http": address}
    rpc.stop(None).wait()


@pytest.fixture
def images(tmp_path):
    """Five files in two folders, and their pixels, in the order of their paths."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    paths = [tmp_path / name for name in ("a/1.PNG", "a/2.png", "a/b/3.png", "c/4.png", "c/5.png")]
    for path, picture in zip(paths, pixels, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[..., 0]).save(path, format="png")
    (tmp_path / "a" / "notes.txt").write_text("text")
    return paths, pixels


@pytest.fixture(params=["grpc", "http"])
def address(request, servers):
    return servers[request.param]


@pytest.mark.parametrize("signature", ["predict_bytes", "serving_default", "uint8"])
def test_every_way_to_send_an_image_gives_its_classes(address, images, signature):
    files, pixels = images
    sender = client.Sender(connect(address, Model("toy")), signature)
    outputs = sender.classify(files)
    expected = (pixels / np.float32(255)).reshape(-1, 36) @ WEIGHTS
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"], tf.nn.softmax(expected), atol=1e-5)
    np.testing.assert_array_equal(outputs["label"], expected.argmax(axis=-1))


@pytest.mark.parametrize(("version", "sign"), [("", 1), ("1", 1), ("2", -1), ("canary", -1)])
def test_a_version_is_a_number_or_a_label(address, images, version, sign):
    files, pixels = images
    outputs = client.Sender(connect(address, Model("toy", version)), "predict_bytes").classify(files[:1])
    expected = sign * (pixels[:1] / np.float32(255)).reshape(-1, 36) @ WEIGHTS
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)


def test_the_shape_of_the_pixels_comes_from_the_server(address):
    connection = connect(address, Model("toy"))
    assert pixel_shape(connection, "uint8") == SHAPE
    with pytest.raises(ServingError, match=r"reads pixels, one of \['predict_bytes', .*Received: predict_bytes"):
        pixel_shape(connection, "predict_bytes")


@pytest.mark.parametrize(
    ("model", "content", "words"),
    [
        (Model("other"), None, r"NOT_FOUND: .*see --name.*Received: Servable not found for request: Latest\(other\)"),
        (Model("toy", "7"), None, "NOT_FOUND: .*version 7 of model toy"),
        (Model("toy"), b"slow", "DEADLINE_EXCEEDED: .*raise --timeout"),
    ],
)
def test_a_refusal_says_what_to_do(address, images, model, content, words):
    files, _ = images
    if content:
        files[0].write_bytes(content)
    sender = client.Sender(connect(address, model, timeout=0.3), "predict_bytes")
    with pytest.raises(ServingError, match=rf"(?s)^[^ ]*127.0.0.1:\d+: {words}"):
        sender.classify(files[:1])


def test_a_refused_batch_names_its_files(address, images):
    files, _ = images
    files[1].write_bytes(b"no picture")
    sender = client.Sender(connect(address, Model("toy")), "predict_bytes")
    with pytest.raises(
        ServingError, match=r"1.PNG ... .*5.png \(5 files .*--batch_size=1 finds which\): .*INVALID_ARG"
    ):
        sender.classify(files)
    with pytest.raises(ServingError, match=r"^[^ ]*2.png: .*INVALID_ARGUMENT"):
        sender.classify(files[1:2])


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (502, b"<html>"), (200, b"[]"), (502, b'"no"')])
def test_what_is_no_json_object_is_no_answer(images, status, body):
    class Other(Handler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Other) as address:
        sender = client.Sender(connect(address, Model("toy")), "predict_bytes")
        with pytest.raises(
            ServingError, match=rf"UNAVAILABLE: .*status {status} and no JSON object: '{re.escape(body.decode())}"
        ):
            sender.classify(images[0])


def test_nobody_there_and_another_protocol_are_told(servers, images, unused_port):
    files, _ = images
    other = {"grpc": servers["http"].replace("http:", "grpc:"), "http": servers["grpc"].replace("grpc:", "http:")}
    for server in (*other.values(), f"grpc://127.0.0.1:{unused_port}", f"http://127.0.0.1:{unused_port}"):
        with pytest.raises(ServingError, match=r"UNAVAILABLE: expected a server there, such as `tfrobust serve"):
            client.Sender(connect(server, Model("toy"), timeout=5.0), "predict_bytes").classify(files)


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as taken:  # bound and not listening: connections are refused, and nobody else gets it
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_answers_of_more_than_grpcs_4_mb_come_through(servers, images):
    files, _ = images
    files[0].write_bytes(files[0].read_bytes() + b"large")
    outputs = client.Sender(connect(servers["grpc"], Model("toy")), "predict_bytes").classify(files[:1])
    assert outputs["more"].nbytes == 2**23


@pytest.mark.parametrize("server", ["127.0.0.1:8500", "ftp://host:1", "grpc://host", "http://", ""])
def test_an_address_needs_a_protocol_and_a_port(server):
    with pytest.raises(ValueError, match=rf"one of grpc, http, https. Received: {server}"):
        connect(server, Model("toy"))


def test_folders_are_searched_in_order(images, tmp_path):
    files, _ = images
    assert client.find_images([str(tmp_path)]) == files
    notes = str(tmp_path / "a" / "notes.txt")
    assert client.find_images([str(tmp_path / "c"), notes]) == [*files[3:], tmp_path / "a" / "notes.txt"]
    with pytest.raises(FileNotFoundError, match="Received: nowhere, where nothing is"):
        client.find_images(["nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"end in \.png"):
        client.find_images([str(tmp_path / "empty")])


def test_a_bad_picture_is_named_before_pixels_are_sent(servers, images):
    files, _ = images
    files[0].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1\.PNG: Expected PNG or JPEG"):
        client.Sender(connect(servers["http"], Model("toy")), "uint8").classify(files[:1])


LOGITS = np.array([[2.0, 1.0, -4.0], [0.5, 0.5 - 1e-6, 0.0]], "float32")


def served(logits, labels=None):
    logits = np.asarray(logits, "float32")
    labels = logits.argmax(axis=-1) if labels is None else np.array(labels)
    return {"logits": logits, "probabilities": tf.nn.softmax(logits).numpy(), "label": labels}


def test_a_comparison_counts_differences_and_ties():
    same = compare(LOGITS, served(LOGITS), 1e-5)
    assert same == (2, 0.0, pytest.approx(0.0, abs=1e-7), 4.0, 0, 0)
    assert compare(LOGITS, served(LOGITS, [0, 1]), 1e-5)[4:] == (1, 1)  # 1e-6 behind, 4e-5 is the tolerance
    assert compare(LOGITS, served(LOGITS, [0, 1]), 1e-7)[4:] == (1, 0)
    assert compare(LOGITS, served(LOGITS, [1, 0]), 1e-5)[4:] == (1, 0)
    moved = compare(LOGITS, served(LOGITS + np.array([[0, 0, 0.25], [0, 0, 0]])), 1e-5)
    assert moved.logits == 0.25
    e = np.exp([2.0, 1.0, -4.0, -3.75])
    assert moved.probabilities == pytest.approx(max(abs(e[:3] / e[:3].sum() - e[[0, 1, 3]] / e[[0, 1, 3]].sum())), 1e-3)
    with pytest.raises(ValueError, match=r"Received: \(2, 3\) of the classifier, \(2, 2\) of the server"):
        compare(LOGITS, served(LOGITS[:, :2]), 1e-5)


def linear(weights):
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(4, use_bias=False, name="dense")
    model = keras.Model(inputs, {"logits": dense(keras.layers.Flatten()(inputs))})
    dense.set_weights([weights])
    return model


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (0.0, 0, "5 images: largest difference of logits"),
        (1e-3, 3, "0 labels differ"),
        (np.nan, 3, "logits nan"),
    ],
)
def test_the_classifier_beside_the_server(address, images, tmp_path, capsys, change, code, words):
    files, _ = images
    linear(WEIGHTS + np.float32(change)).save(tmp_path / "c.keras")
    sender = client.Sender(connect(address, Model("toy")), "predict_bytes")
    given = SimpleNamespace(compare=str(tmp_path / "c.keras"), batch_size=2, tolerance=1e-5)
    assert client._compare(sender, files, given) == code
    out, err = capsys.readouterr()
    assert words in out and len(out.splitlines()) == 1
    assert ("no copy of" in err) == bool(code)


def test_a_load_is_bounded_and_counts_what_fails():
    lock, open_now, most, sent = threading.Lock(), 0, 0, []

    def send(number):
        nonlocal open_now, most
        with lock:
            open_now, most = open_now + 1, max(most, open_now + 1)
            sent.append(number)
        time.sleep(0.01)
        with lock:
            open_now -= 1
        if number == 5:
            raise ServingError("the fifth")

    seen = load(lambda: send, requests=40, concurrency=4, seconds=60.0)
    assert sorted(sent[4:]) == list(range(40)) and sent[:4] == [0] * 4  # one uncounted for each connection
    assert most == 4
    assert seen.failures == ["the fifth"] and len(seen.latencies) == 39
    assert all(latency >= 0.01 for latency in seen.latencies)
    assert seen.seconds >= 0.1  # 40 / 4 * 0.01
    seen.seconds, seen.latencies = 2.0, [0.001 * i for i in range(1, 101)]
    assert str(seen) == ("101 requests in 2.0 s: 1 failed, 50 answered a second, p50 50.5 ms, p95 95.0 ms, p99 99.0 ms")

    begun = time.perf_counter()
    seen = load(lambda: send, requests=10**9, concurrency=2, seconds=0.1)
    assert time.perf_counter() - begun < 10.0
    assert 0 < len(seen.latencies) <= 2 * 11  # none begins after the bound

    def broken(_):
        raise ServingError("nobody there")

    with pytest.raises(ServingError, match="nobody there"):
        load(lambda: broken, requests=10, concurrency=2, seconds=1.0)


def command(*arguments):
    arguments = [sys.executable, "-m", "export.client", *map(str, arguments)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


def test_the_table_the_lines_and_the_load(servers, images, tmp_path):
    files, pixels = images
    expected = ((pixels / np.float32(255)).reshape(-1, 36) @ WEIGHTS).argmax(axis=-1)
    (tmp_path / "names.txt").write_text("zero\none\ntwo\nthree\n")
    toy = (f"--server={servers['http']}", "--name=toy")
    done = command(*toy, tmp_path / "a", tmp_path / "c", f"--class_names={tmp_path / 'names.txt'}", "--batch_size=2")
    assert (done.returncode, done.stderr) == (0, "")
    title, *rows = (line.split() for line in done.stdout.splitlines())
    assert title == ["file", "class", "probability"]
    assert [row[0] for row in rows] == list(map(str, files))
    assert [row[1] for row in rows] == [("zero", "one", "two", "three")[label] for label in expected]
    assert all(0.25 <= float(row[2]) <= 1.0 for row in rows)

    done = command(*toy, tmp_path / "a", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["file"], line["class"]) for line in lines] == [
        (str(file), label) for file, label in zip(files[:3], expected, strict=False)
    ]
    assert all(sum(line["probabilities"]) == pytest.approx(1.0, abs=1e-5) for line in lines)

    done = command(*toy, tmp_path / "a", "--load=30", "--concurrency=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("30 requests in ") and ": 0 failed, " in done.stdout and "p99" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--name=toy"], 2, "Expected FILE .... Received: no argument"),
        (["{tmp}"], 2, "Expected --name=NAME"),
        (["{tmp}", "--name=toy", "--server=8500"], 2, "Expected --server=SCHEME://HOST:PORT"),
        (["{tmp}", "--name=toy", "--compare=c.keras", "--load=1"], 2, "Received: both"),
        (["{tmp}", "--name=toy", "--signature=logits"], 2, "predict_bytes"),
        (["{tmp}", "--name=toy", "--compare=c.keras"], 1, "Received: c.keras, where no file is"),
        (["nowhere", "--name=toy"], 1, "Received: nowhere"),
        (["{tmp}", "--name=other", "--server={http}"], 1, "NOT_FOUND"),
        (["{tmp}", "--name=toy", "--server={http}", "--class_names={tmp}/a/notes.txt"], 1, "Expected 4 lines in"),
        (["{tmp}", "--name=other", "--server={http}", "--load=5"], 1, "NOT_FOUND"),
    ],
)
def test_a_mistake_is_one_line(servers, images, tmp_path, arguments, code, words):
    done = command(*(argument.format(tmp=tmp_path, **servers) for argument in arguments))
    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_and_rest_come_without_tensorflow(servers, images, tmp_path):
    hidden = "import runpy, sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; sys.argv = sys.argv[1:];"
    run = [sys.executable, "-c", hidden + "runpy.run_module('export.client', run_name='__main__')", "x"]
    done = subprocess.run([*run, "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--concurrency" in done.stdout
    asked = [*run, f"--server={servers['http']}", "--name=toy", str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 6)


@pytest.mark.parametrize("signature", ["predict_bytes", "serving_default", "uint8"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_is_no_fake(server, images, tmp_path, capsys, protocol, signature):
    files, _ = images
    kernel = np.zeros((*SHAPE, 4), "float32")  # the network of conftest.py: the mean of each quarter
    for label in range(4):
        row, column = 3 * (label // 2), 3 * (label % 2)
        kernel[row : row + 3, column : column + 3, :, label] = 1 / 9
    linear(kernel.reshape(36, 4)).save(tmp_path / "c.keras")
    address = {"grpc": f"grpc://{server.grpc_address}", "http": server.rest}[protocol]
    sender = client.Sender(connect(address, Model(server.name)), signature)
    given = SimpleNamespace(compare=str(tmp_path / "c.keras"), batch_size=2, tolerance=1e-5)
    assert client._compare(sender, files, given) == 0
    assert "; 0 labels differ" in capsys.readouterr().out
