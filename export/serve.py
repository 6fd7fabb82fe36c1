"""A small local server of an exported model, for development and tests; production is TensorFlow Serving.

    tfrobust serve --model=DIR --rest_port=8501 --grpc_port=8500

It speaks TensorFlow Serving's two protocols, and serves the latest of the versions DIR/1, DIR/2 ... The served name is
the folder's. New versions are picked up while it runs.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from absl import flags

from commands import cli

NOTICE = "A small local server for development and tests: for production take TensorFlow Serving (docs/serving.md)."
GRACE = 30.0  # seconds for the requests that are running when the server is told to stop


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("model", None, "The model's folder; its versions are DIR/1, DIR/2 ...")
    flags.DEFINE_string("name", None, "The served name; default: the folder's.")
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on. There is no encryption and no password.")
    flags.DEFINE_integer("rest_port", 8501, "Port of the REST protocol; 0: a free one.", 0, 65535)
    flags.DEFINE_integer("grpc_port", 8500, "Port of the gRPC protocol; 0: a free one.", 0, 65535)
    flags.DEFINE_integer("num_versions", 1, "How many of the latest versions are served.", lower_bound=1)
    flags.DEFINE_float("poll_seconds", 1.0, "Seconds between two looks for new versions.", lower_bound=0.01)
    flags.DEFINE_integer("max_batch", 1024, "The largest batch of a request.", lower_bound=1)
    flags.DEFINE_integer("max_megabytes", 64, "The largest request, in MiB.", 1, 1024)


def main(_: list[str]) -> None:
    """Serves the model of the flags until SIGINT or SIGTERM."""
    given = flags.FLAGS
    if not given.model:
        raise cli.Misuse("Nothing to serve: expected --model=DIR. Received: no --model")
    folder = Path(given.model).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"Nothing to serve: expected --model=DIR. Received: {given.model}, where no folder is")
    from export.servable import Servable, Versions, versions_in

    versions = Versions(
        folder,
        given.name or folder.name,
        given.num_versions,
        load=lambda path: Servable(path, given.max_batch),
        report=lambda line: print(line, flush=True),
    )
    nothing = f"Nothing to serve: expected a version such as {folder / '1'} that loads"
    if not versions_in(folder):  # checked before TensorFlow is imported
        raise cli.Mistake(f"{nothing}. Received: a folder without versions")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    print(NOTICE, flush=True)

    sys.modules["keras"] = None  # type: ignore[assignment]  # TensorFlow would import it, and nothing here needs it
    import tensorflow as tf

    from export.grpc_service import GrpcServer
    from export.rest_service import RestServer

    tf.get_logger().setLevel("ERROR")  # its loader warns that it is the old one
    max_bytes = given.max_megabytes << 20
    rest = RestServer(versions, given.host, given.rest_port, max_bytes)
    grpc = GrpcServer(versions, given.host, given.grpc_port, max_bytes)
    versions.poll()
    if not versions.available:
        raise cli.Mistake(f"{nothing}. Received: versions that fail to load, see above")
    rest.start()
    grpc.start()
    print(f"REST http://{given.host}:{rest.port}/v1/models/{versions.name}", flush=True)
    print(f"gRPC {given.host}:{grpc.port}", flush=True)
    try:
        while not stopped.wait(given.poll_seconds):
            versions.poll()
    finally:
        grpc.stop(GRACE)
        rest.stop()
        versions.close()


if __name__ == "__main__":
    cli.run(main, define_flags)
