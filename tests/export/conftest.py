"""A tiny exported model and the server under test: a real TensorFlow Serving where one is at hand, else ours.

The real one is started where `tensorflow_model_server` is on PATH. One that runs already is taken from the environment:
TF_SERVING_ADDRESS is its gRPC host:port, TF_SERVING_REST its REST port, TF_SERVING_MODEL the empty folder that it
watches; the model is written there, and is served under the folder's name.
"""

import contextlib
import dataclasses
import io
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import grpc
import numpy as np
import PIL.Image
import pytest
import requests
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

from tfrobust.utils.files import replacing

SHAPE, CLASSES = (6, 6, 1), 4


def write_version(folder, number, scale=1.0):
    """Writes a version with the signatures of an export: logits are `scale` times the mean of each quarter."""
    import tensorflow as tf

    from export import pictures

    module = tf.Module()
    # A kernel of zeros but for one quarter per class.
    kernel = np.zeros((*SHAPE, CLASSES), "float32")
    for label in range(CLASSES):
        row, column = 3 * (label // 2), 3 * (label % 2)
        kernel[row : row + 3, column : column + 3, :, label] = 1 / 9
    module.kernel = tf.Variable(scale * kernel.reshape(-1, CLASSES))
    pixels = tf.TensorSpec((None, *SHAPE), tf.float32, name="pixels")

    def checked(pixels):
        some = tf.debugging.Assert(tf.shape(pixels)[0] > 0, ["expected at least one image"])
        inside = tf.reduce_all((pixels >= 0) & (pixels <= 1))  # NaN is neither
        fractions = tf.debugging.Assert(inside, ["expected pixels in [0, 1]"])
        with tf.control_dependencies([some, fractions]):
            return tf.matmul(tf.reshape(pixels, (-1, np.prod(SHAPE))), module.kernel)

    def labelled(pixels):
        logits = checked(pixels)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits), "label": tf.argmax(logits, axis=-1)}

    @tf.function(input_signature=[pixels])
    def serving_default(pixels):
        return labelled(pixels)

    @tf.function(input_signature=[pixels])
    def logits(pixels):
        return {"logits": checked(pixels)}

    @tf.function(input_signature=[tf.TensorSpec((None, *SHAPE), tf.uint8, name="pixels")])
    def uint8(pixels):
        return labelled(tf.cast(pixels, tf.float32) / 255)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def predict_bytes(image_bytes):
        return labelled(tf.cast(pictures.decode(image_bytes, SHAPE), tf.float32) / 255)

    signatures = {
        "serving_default": serving_default,
        "logits": logits,
        "uint8": uint8,
        "predict_bytes": predict_bytes,
    }
    with replacing(Path(folder) / str(number)) as beside:
        tf.saved_model.save(module, str(beside), signatures=signatures)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Two versions to copy: the second one's logits are twice the first one's."""
    folder = tmp_path_factory.mktemp("exported")
    write_version(folder, 1)
    write_version(folder, 2, scale=2.0)
    return folder


def publish(source, target):
    """Copies a version as an export writes it: whole or not there."""
    with replacing(target) as beside:
        shutil.copytree(source, beside)


@dataclasses.dataclass
class Server:
    """A server under test: `grpc_address`, `rest` (its URL), `name` and `folder` of the model, the process or None."""

    name: str
    folder: Path
    grpc_address: str
    rest: str
    process: subprocess.Popen | None = None
    stderr: io.IOBase | None = None
    ours: bool = False

    @property
    def url(self):
        return f"{self.rest}/v1/models/{self.name}"

    @contextlib.contextmanager
    def channel(self):
        with grpc.insecure_channel(self.grpc_address) as channel:
            yield channel

    @contextlib.contextmanager
    def stub(self):
        with self.channel() as channel:
            yield prediction_service_pb2_grpc.PredictionServiceStub(channel)

    @contextlib.contextmanager
    def model_stub(self):
        with self.channel() as channel:
            yield model_service_pb2_grpc.ModelServiceStub(channel)

    def request(self, signature="", version=None, **inputs):
        """Returns the request of a signature on arrays."""
        import tensorflow as tf

        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.name
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return request

    def states(self):
        """Returns the state of each version that the server has seen."""
        found = requests.get(self.url, timeout=10).json().get("model_version_status", [])
        return {int(version["version"]): version["state"] for version in found}

    def wait_for(self, number, state="AVAILABLE", seconds=30):
        """Waits until a version is in a state."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(requests.ConnectionError):
                if self.states().get(number) == state:
                    return
            time.sleep(0.05)
        raise AssertionError(f"version {number} is not {state}: {self.states()}")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def running(command, **options):
    """Runs a server, stops it as an operator would, and kills it where that does not help."""
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def local(folder, *flags):
    """Runs `tfrobust serve` on free ports."""
    command = [sys.executable, "-m", "export.serve", f"--model={folder}", "--rest_port=0", "--grpc_port=0"]
    with (
        tempfile.TemporaryFile("a+") as stderr,  # a pipe that nobody reads would stop the server
        running([*command, "--poll_seconds=0.05", *flags], stderr=stderr) as process,
    ):
        found = {}
        while len(found) < 2:
            line = process.stdout.readline()
            assert line, stderr.seek(0) or stderr.read()
            if match := re.match(r"(REST|gRPC) (?:http://)?([^/\s]+)(?:/v1/models/(\S+))?$", line):
                found[match[1]] = match
        name, rest = found["REST"][3], f"http://{found['REST'][2]}"
        yield Server(name, Path(folder), found["gRPC"][2], rest, process, stderr, ours=True)
    assert process.returncode == 0


@contextlib.contextmanager
def real(folder):
    """Runs `tensorflow_model_server` on free ports."""
    ports = free_port(), free_port()
    flags = [f"--port={ports[0]}", f"--rest_api_port={ports[1]}", f"--model_name={folder.name}"]
    flags += [f"--model_base_path={folder}", "--file_system_poll_wait_seconds=1"]
    with running(["tensorflow_model_server", *flags], stderr=subprocess.DEVNULL) as process:
        yield Server(folder.name, folder, f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", process)


@contextlib.contextmanager
def elsewhere(address):
    """Takes the server that the environment names; what was written to its folder is removed at the end."""
    folder = Path(os.environ["TF_SERVING_MODEL"])
    host = address.rpartition(":")[0]
    try:
        yield Server(folder.name, folder, address, f"http://{host}:{os.environ['TF_SERVING_REST']}")
    finally:
        for path in folder.iterdir():
            shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(exported, tmp_path_factory):
    """The server under test with version 1, for tests that leave it as it is."""
    address = os.environ.get("TF_SERVING_ADDRESS")
    folder = Path(os.environ["TF_SERVING_MODEL"]) if address else tmp_path_factory.mktemp("models") / "tiny"
    publish(exported / "1", folder / "1")
    if address:
        started = elsewhere(address)
    elif shutil.which("tensorflow_model_server"):
        started = real(folder)
    else:
        started = local(folder)
    with started as found:
        found.wait_for(1)
        yield found


@pytest.fixture
def start_server(exported, tmp_path):
    """Starts servers of our own on a model folder with the given versions: `start(*flags, versions=(1,))`."""
    with contextlib.ExitStack() as stack:

        def start(*flags, versions=(1,)):
            folder = tmp_path / "tiny"
            folder.mkdir(exist_ok=True)
            for number in versions:
                publish(exported / str(number), folder / str(number))
            return stack.enter_context(local(folder, *flags))

        yield start


@pytest.fixture
def publish_version(exported):
    """Puts a version where a server looks: `publish_version(server, number, source=number)`."""
    return lambda server, number, source=None: publish(exported / str(source or number), server.folder / str(number))


@pytest.fixture
def pixels():
    """Three images, their logits under version 1 and their labels."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.5, (3, *SHAPE)).astype("float32")
    for image, label in zip(x, (2, 0, 3), strict=True):
        row, column = 3 * (label // 2), 3 * (label % 2)
        image[row : row + 3, column : column + 3] += 0.5
    logits = x.reshape(3, 2, 3, 2, 3).mean(axis=(2, 4)).reshape(3, CLASSES)
    return x, logits, np.array([2, 0, 3])


@pytest.fixture
def own_server(server):
    """The server under test where it is ours: for what the protocols leave open."""
    if not server.ours:
        pytest.skip("a choice of export.serve")
    return server


def picture(image, format="PNG"):
    """Returns uint8 pixels as the bytes of a picture."""
    file = io.BytesIO()
    PIL.Image.fromarray(np.squeeze(image)).save(file, format)
    return file.getvalue()


@pytest.fixture
def pictures(pixels):
    """The images as PNG files, and as the fractions that come out of those."""
    whole = np.round(pixels[0] * 255).astype("uint8")
    return [picture(image) for image in whole], whole.astype("float32") / 255


@pytest.fixture(scope="session")
def photos():
    """JPEG files as people have them: turned, in inks, progressive."""
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype="uint8"))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    options = {"exif": {"exif": exif}, "inks": {}, "progressive": {"progressive": True, "exif": exif}}
    files = {name: io.BytesIO() for name in options}
    for name, file in files.items():
        (image.convert("CMYK") if name == "inks" else image).save(file, "JPEG", **options[name])
    return [file.getvalue() for file in files.values()]


@pytest.fixture(scope="session")
def bomb():
    """A PNG of 400 bytes whose header says 20000 x 20000, with the right check sum."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + bytes(400)
