"""The command: its flags and mistakes; versions that come, go and fail under load; a clean end."""

import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import requests
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from export.servable import Versions
from export.tensors import Refusal, Spec

GRAY = np.full((1, 6, 6, 1), 0.5, "float32")


def command(*arguments):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--modle=x"], 2, "Unknown command line flag 'modle'"),
        ([], 2, "expected --model=DIR"),
        (["--model=nowhere"], 1, "Received: nowhere, where no folder is"),
        (["--model={tmp}"], 1, "Received: a folder without versions"),
        (["--model={tmp}", "--rest_port=70000"], 2, "rest_port"),
        (["--model={tmp}", "--num_versions=0"], 2, "num_versions"),
        (["--model={tmp}", "more"], 2, "Unexpected arguments"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, flags, code, words):
    done = command("-m", "export.serve", *(flag.format(tmp=tmp_path) for flag in flags))
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_comes_without_tensorflow_and_names_the_real_server():
    hidden = "import runpy, sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; sys.argv = ['x', '--help'];"
    done = command("-c", hidden + "runpy.run_module('export.serve', run_name='__main__', alter_sys=True)")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--rest_port" in done.stdout
    assert "production is TensorFlow Serving" in done.stdout


def test_a_folder_without_a_version_that_loads(tmp_path):
    """Said by a process that can import neither Keras nor tfrobust."""
    (tmp_path / "1").mkdir()
    (tmp_path / "notes").mkdir()
    hidden = "import runpy, sys; sys.modules['keras'] = sys.modules['tfrobust.utils'] = None;"
    run = "runpy.run_module('export.serve', run_name='__main__', alter_sys=True)"
    done = command("-c", hidden + run, f"--model={tmp_path}", "--rest_port=0", "--grpc_port=0")
    assert done.returncode == 1
    assert f"expected a version such as {tmp_path}/1 that loads" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    notice, line = done.stdout.splitlines()
    assert "for production take TensorFlow Serving" in notice
    assert line.startswith("version 1 failed to load: OSError: SavedModel file does not exist")


def test_a_port_that_is_taken_is_not_shared():
    from export.grpc_service import GrpcServer
    from export.rest_service import RestServer

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for protocol, server in (("REST", RestServer), ("gRPC", GrpcServer)):
            with pytest.raises(OSError, match=f"{protocol} cannot listen on 127.0.0.1:{port}: expected a free port"):
                server(None, "127.0.0.1", port, 1)
    first = GrpcServer(None, "127.0.0.1", 0, 1)
    with pytest.raises(OSError, match="gRPC cannot listen"):
        GrpcServer(None, "127.0.0.1", first.port, 1)
    first.stop(0)


class Recorder:
    """Stands for a loaded version."""

    def __init__(self, path):
        if (path / "broken").exists():
            raise OSError("cut short")
        self.name, self.closed = path.name, False

    def close(self):
        self.closed = True


@pytest.fixture
def watched(tmp_path):
    """Versions of an empty folder, what was loaded and what was said: `watched(keep)`."""

    def make(keep=1):
        loaded, lines = {}, []

        def load(path):
            loaded[int(path.name)] = Recorder(path)
            return loaded[int(path.name)]

        return Versions(tmp_path, "tiny", keep, load, lines.append), loaded, lines

    return make


def served(versions):
    return [version.number for version in versions.available]


def test_the_latest_is_served_and_what_it_replaces_goes(tmp_path, watched):
    versions, loaded, lines = watched()
    for name in ("2", "10", "notes", ".0a1b2c3d-11", "-3", "01", "٣", "1e3"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("no folder")
    versions.poll()
    assert (served(versions), list(loaded)) == ([10], [10])
    (tmp_path / "11").mkdir()
    versions.poll()
    versions.poll()
    assert (served(versions), loaded[10].closed) == ([11], True)
    assert lines == ["version 10 is available", "version 11 is available", "version 10 is unloaded"]
    assert [(version.number, version.state) for version in versions.seen("tiny")] == [(10, "END"), (11, "AVAILABLE")]
    (tmp_path / "11").rmdir()  # the way back
    versions.poll()
    assert (served(versions), loaded[11].closed) == ([10], True)


def test_several_versions(tmp_path, watched):
    versions, _, _ = watched(keep=2)
    for number in range(1, 5):
        (tmp_path / str(number)).mkdir()
        versions.poll()
        assert served(versions) == list(range(1, 5))[max(0, number - 2) : number]
    with versions.use("tiny", 3) as (number, servable):
        assert (number, servable.name) == (3, "3")
    for wrong in (("tiny", 1), ("tiny", 9), ("other", None)):
        with pytest.raises(Refusal) as refusal, versions.use(*wrong):
            pass
        assert refusal.value.code == grpc.StatusCode.NOT_FOUND
    versions.close()
    assert served(versions) == []


def test_a_version_that_fails_is_not_tried_again_and_the_old_one_stays(tmp_path, watched):
    versions, loaded, lines = watched()
    (tmp_path / "1").mkdir()
    versions.poll()
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "broken").touch()
    versions.poll()
    (tmp_path / "2" / "broken").unlink()
    versions.poll()
    assert (served(versions), list(loaded)) == ([1], [1])
    assert lines == ["version 1 is available", "version 2 failed to load: OSError: cut short"]
    (failed,) = versions.seen("tiny", 2)
    assert (failed.state, failed.error) == ("END", "OSError: cut short")
    (tmp_path / "3").mkdir()
    versions.poll()
    assert served(versions) == [3]


def test_a_folder_that_is_gone_keeps_what_is_served(tmp_path, watched):
    versions, _, _ = watched()
    (tmp_path / "1").mkdir()
    versions.poll()
    tmp_path.rename(tmp_path.with_name("moved"))
    versions.poll()
    assert served(versions) == [1]


def test_a_version_is_unloaded_after_its_own_requests(tmp_path, watched):
    versions, loaded, _ = watched()
    (tmp_path / "1").mkdir()
    versions.poll()
    with versions.use("tiny", None) as (number, old):
        (tmp_path / "2").mkdir()
        thread = threading.Thread(target=versions.poll)
        thread.start()
        while served(versions) != [2]:
            time.sleep(0.001)
        with versions.use("tiny", None) as (newer, _):
            assert (number, newer) == (1, 2)
        thread.join(0.05)
        assert thread.is_alive()
        assert not old.closed
        assert versions.seen("tiny", 1)[0].state == "UNLOADING"
    thread.join(10)
    assert loaded[1].closed


def spec(text):
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

    return Spec("x", text_format.Parse(text, TensorInfo()), max_batch=8)


def test_signatures_that_leave_more_open():
    """Values of an unbounded shape have to be there; what JSON has no values for is said."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    wide = spec("dtype: DT_FLOAT tensor_shape { dim { size: -1 } dim { size: -1 } }")
    one = "dtype: DT_FLOAT float_val: 1 tensor_shape { dim { size: 2 } dim { size: %d } }"
    with pytest.raises(Refusal, match="expected 2000000000 values in float_val"):
        wide.from_proto(text_format.Parse(one % 10**9, TensorProto()))
    assert wide.from_json([[1, 2, 3]]).shape == (1, 3)
    anything = spec("dtype: DT_STRING tensor_shape { unknown_rank: true }")
    assert anything.from_json("text") == np.array(b"text", object)
    assert anything.from_json([["a", "b"]]).tolist() == [[b"a", b"b"]]
    with pytest.raises(Refusal, match="a batch of at most 8"):
        anything.from_json(["a"] * 9)
    deep: list = []
    for _ in range(100):
        deep = [deep or "a"]
    with pytest.raises(Refusal, match="expected shape any"):
        anything.from_json(deep)
    fixed = spec("dtype: DT_INT64 tensor_shape { dim { size: 20 } }")
    assert fixed.from_json([1] * 20).dtype == np.int64
    with pytest.raises(Refusal, match=r"expected shape \(20\), every size at least 1. Received: \(1\)"):
        fixed.from_json([1])
    with pytest.raises(Refusal) as refusal:
        spec("dtype: DT_COMPLEX64 tensor_shape { }").from_json(1)
    assert refusal.value.code == grpc.StatusCode.UNIMPLEMENTED


def test_strings_and_messages_go_out_as_the_protocol_has_them():
    import tensorflow as tf

    text, binary = spec("dtype: DT_STRING tensor_shape { dim { size: -1 } }"), None
    assert text.to_json(np.array([b"a", "é".encode()], object)) == ["a", "é"]
    binary = spec("dtype: DT_STRING tensor_shape { dim { size: -1 } }")
    binary.name = "image_bytes"
    assert binary.to_json(np.array([b"\x00\xff"], object)) == [{"b64": "AP8="}]
    for dtype in ("float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"):
        kind = spec(f"dtype: {tf.dtypes.as_dtype(dtype).as_datatype_enum} tensor_shape {{ dim {{ size: -1 }} }}")
        array = np.array([0, 1, 1], dtype)
        for back in (tf.make_ndarray(kind.to_proto(array)), kind.from_json(kind.to_json(array))):
            assert back.dtype == array.dtype
            np.testing.assert_array_equal(back, array)
        np.testing.assert_array_equal(kind.from_proto(tf.make_tensor_proto(array)), array)


def test_a_version_swapped_under_load_loses_no_request(start_server, publish_version):
    server = start_server("--name=digits")
    assert server.name == "digits"
    over, counts, failed = threading.Event(), [], []

    def watch(ask):
        found = []
        try:
            while not over.is_set():
                found.append(ask())
        except Exception as error:
            failed.append(error)
        counts.append(found)

    def by_grpc():
        with server.stub() as stub:
            request = server.request("logits", pixels=GRAY)
            watch(lambda: stub.Predict(request, timeout=20).outputs["logits"].float_val[0])

    def by_rest():
        with requests.Session() as session:
            body = {"signature_name": "logits", "instances": GRAY.tolist()}
            watch(lambda: session.post(f"{server.url}:predict", json=body, timeout=20).json()["predictions"][0][0])

    threads = [threading.Thread(target=client) for client in (by_grpc, by_rest) * 2]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    publish_version(server, 2)  # its logits are twice as large
    server.wait_for(1, "END")
    time.sleep(0.2)
    over.set()
    for thread in threads:
        thread.join()
    assert not failed
    for found in counts:
        np.testing.assert_allclose(np.unique(np.round(found, 5)), [0.5, 1.0])
        assert found == sorted(found)  # never back
    assert server.states() == {1: "END", 2: "AVAILABLE"}

    (server.folder / "3").mkdir()  # nothing is in it
    server.wait_for(3, "END")
    status = requests.get(f"{server.url}/versions/3", timeout=20).json()["model_version_status"][0]["status"]
    assert status["error_code"] == "UNKNOWN"
    assert "SavedModel" in status["error_message"]
    assert requests.post(f"{server.url}:predict", json={"instances": GRAY.tolist()}, timeout=20).status_code == 200

    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 0
    assert "version 2 is available\nversion 1 is unloaded\nversion 3 failed to load" in server.process.stdout.read()
    server.stderr.seek(0)
    assert "Traceback" not in server.stderr.read()


class Waiting:
    """Stands for a loaded version with a signature of nothing, whose answers wait for `go`."""

    def __init__(self, path):
        self.inputs = self.outputs = {}
        self.asked, self.go = threading.Semaphore(0), threading.Event()

    def signature(self, name):
        return self

    def read(self, values, read):
        return {}

    def __call__(self, inputs):
        self.asked.release()
        assert self.go.wait(20)
        return {}


def test_requests_that_run_are_answered_before_the_end(tmp_path):
    """One on each protocol; an idle connection and half a request are not waited for."""
    from export.grpc_service import GrpcServer
    from export.rest_service import RestServer

    (tmp_path / "1").mkdir()
    versions = Versions(tmp_path, "tiny", 1, Waiting, print)
    versions.poll()
    servers = rest, grpc_ = [server(versions, "127.0.0.1", 0, 1000) for server in (RestServer, GrpcServer)]
    for server in servers:
        server.start()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    idle, half, whole = (socket.create_connection(("127.0.0.1", rest.port), timeout=20) for _ in range(3))
    head = b"POST /v1/models/tiny:predict HTTP/1.1\r\nContent-Length: 14\r\n\r\n"
    half.sendall(head + b"{")
    whole.sendall(head + b'{"inputs": {}}')
    with grpc.insecure_channel(f"127.0.0.1:{grpc_.port}") as channel:
        future = PredictionServiceStub(channel).Predict.future(request)
        with versions.use("tiny", None) as (_, servable):
            assert all(servable.asked.acquire(timeout=20) for _ in range(2))
        stops = [threading.Thread(target=rest.stop), threading.Thread(target=grpc_.stop, args=(20,))]
        for thread in stops:
            thread.start()
        for connection in (idle, half):  # both are told at once that no more comes
            assert connection.recv(100) == b""
        assert all(thread.is_alive() for thread in stops)
        servable.go.set()
        assert future.result(20).model_spec.version.value == 1
    with whole.makefile("rb") as file:
        assert file.read().endswith(b'\r\n\r\n{"outputs": {}}')
    for thread in stops:
        thread.join(20)
        assert not thread.is_alive()
    for connection in (idle, half, whole):
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", rest.port), timeout=20)
