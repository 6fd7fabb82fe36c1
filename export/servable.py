"""Loads the versions of one model as TensorFlow Serving does, and keeps the latest ones available."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from export.tensors import Refusal, Spec, invalid

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

DEFAULT_SIGNATURE = "serving_default"
_CODES = {code.value[0]: code for code in grpc.StatusCode}  # TensorFlow's error codes are the same numbers


class Signature:
    """A function of a version that is loaded in a session: `signature({name: array}) -> {name: array}`."""

    def __init__(self, session: Any, definition: SignatureDef, max_batch: int) -> None:
        self.inputs = {name: Spec(name, info, max_batch) for name, info in definition.inputs.items()}
        self.outputs = {name: Spec(name, info, max_batch) for name, info in definition.outputs.items()}
        fetches = {name: info.name for name, info in definition.outputs.items()}
        self._run = session.make_callable(fetches, [info.name for info in definition.inputs.values()])

    def read(self, values: Mapping[str, Any], read: Callable[[Spec, Any], np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the inputs of a request, by name, as arrays; `read` is the method of `Spec` for the protocol."""
        if set(values) != set(self.inputs):
            received = ", ".join(sorted(values)) or "none"
            raise invalid(f"Expected the inputs {', '.join(sorted(self.inputs))}. Received: {received}")
        return {name: read(spec, values[name]) for name, spec in self.inputs.items()}

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graph; an error of TensorFlow is a `Refusal` with its code."""
        import tensorflow as tf

        try:
            return self._run(*(inputs[name] for name in self.inputs))
        except tf.errors.OpError as error:
            raise Refusal(_CODES[error.error_code], _reason(error.message)) from error


class Servable:
    """The SavedModel of one version, loaded in a session of its own; see `Spec` for `max_batch`."""

    def __init__(self, path: Path, max_batch: int) -> None:
        import tensorflow as tf

        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(path))
        self.definitions = dict(loaded.signature_def)
        self._signatures = {
            name: Signature(self._session, definition, max_batch)
            for name, definition in self.definitions.items()
            if definition.method_name == tf.saved_model.PREDICT_METHOD_NAME
        }

    def signature(self, name: str) -> Signature:
        """Returns the signature of that name; no name means the default one."""
        name = name or DEFAULT_SIGNATURE
        if name not in self._signatures:
            known = ", ".join(sorted(self._signatures))
            message = f"Serving signature key {name[:100]!r} not found: expected one of {known}"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)
        return self._signatures[name]

    def close(self) -> None:
        """Frees the session."""
        self._session.close()


@dataclasses.dataclass
class Version:
    """One version: its `state` by the protocol's names, and the error if it failed to load."""

    number: int
    state: str = "START"
    error: str = ""
    servable: Servable | None = None
    users: int = 0


class Versions:
    """The versions of a model's folder, in folders named 1, 2 ..., of which the latest `keep` are served.

    A version is unloaded when its successor is available and its own requests are done. A version that fails to load is
    reported and not tried again, and the versions that it would have replaced stay. `load` returns the servable of a
    version's folder, `report` receives a line for each version that is loaded, unloaded or fails.
    """

    def __init__(
        self, folder: Path, name: str, keep: int, load: Callable[[Path], Servable], report: Callable[[str], None]
    ) -> None:
        self.name = name
        self._folder, self._keep, self._load, self._report = folder, keep, load, report
        self._known: dict[int, Version] = {}
        self._changed = threading.Condition()

    @property
    def available(self) -> list[Version]:
        """The versions that are served now, in order."""
        return [version for version in self._all() if version.state == "AVAILABLE"]

    def poll(self) -> None:
        """Loads new versions from the folder and unloads those that they replace; only one thread may call it."""
        failed = {version.number for version in self._all() if version.error}
        wanted = sorted(versions_in(self._folder) - failed)[-self._keep :]
        for number in wanted:
            version = self._known.get(number)
            if version is None or version.state != "AVAILABLE":
                self._add(number)
        if any(version.number in wanted for version in self.available):
            for version in self.available:
                if version.number not in wanted:
                    self._remove(version)

    def seen(self, name: str, number: int | None = None) -> list[Version]:
        """Returns the versions of the model that were ever seen, in order; with a number only that one."""
        return self._fitting(self._all(), name, number, "was never seen")

    @contextlib.contextmanager
    def use(self, name: str, number: int | None) -> Iterator[tuple[int, Servable]]:
        """Yields number and servable of a version, the latest without a number; it stays loaded in the block."""
        with self._changed:
            *_, version = self._fitting(self.available, name, number, "is not available")
            version.users += 1
            servable = version.servable
        assert servable is not None
        try:
            yield version.number, servable
        finally:
            with self._changed:
                version.users -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Unloads all versions, each after its requests are done."""
        for version in self.available:
            self._remove(version)

    def _all(self) -> list[Version]:
        with self._changed:
            return [self._known[number] for number in sorted(self._known)]

    def _fitting(self, versions: list[Version], name: str, number: int | None, otherwise: str) -> list[Version]:
        if name != self.name:
            message = f"No model {name[:100]!r}: expected {self.name!r}, the one that is served"
            raise Refusal(grpc.StatusCode.NOT_FOUND, message)
        fitting = [version for version in versions if number in (None, version.number)]
        if not fitting:
            asked = "Any version" if number is None else f"Version {number}"
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{asked} of model {name} {otherwise}")
        return fitting

    def _add(self, number: int) -> None:
        version = Version(number, "LOADING")
        with self._changed:
            self._known[number] = version
        try:
            servable = self._load(self._folder / str(number))
        except Exception as error:  # TensorFlow has many errors for a broken file; the other versions are still served
            with self._changed:
                version.state, version.error = "END", f"{type(error).__name__}: {_reason(str(error))}"
            self._report(f"version {number} failed to load: {version.error}")
            return
        with self._changed:
            version.servable, version.state = servable, "AVAILABLE"
        self._report(f"version {number} is available")

    def _remove(self, version: Version) -> None:
        with self._changed:
            version.state = "UNLOADING"  # from now on it gets no requests
            self._changed.wait_for(lambda: not version.users)
            servable, version.servable = version.servable, None
            version.state = "END"
        assert servable is not None
        servable.close()
        del servable
        gc.collect()  # a graph and its session refer to each other
        self._report(f"version {version.number} is unloaded")


def versions_in(folder: Path) -> set[int]:
    """Returns the numbers of the versions in a model's folder; none if it cannot be read."""
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir()]
    except OSError:  # while the folder is moved or mounted, the served versions stay
        return set()
    return {int(name) for name in names if name.isascii() and name.isdecimal() and str(int(name)) == name}


def _reason(message: str) -> str:
    """Returns TensorFlow's message as one line, without the place in the graph."""
    return " ".join(message.partition("[[{{")[0].split()).removeprefix("Graph execution error: ")
