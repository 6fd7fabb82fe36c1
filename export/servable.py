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
    """A function of a loaded version: `signature({name: array}) -> {name: array}`.

    Args:
        session: session in which the version is loaded.
        definition: definition of its inputs and outputs.
        max_batch: see `Spec`.
    """

    def __init__(self, session: Any, definition: SignatureDef, max_batch: int) -> None:
        self.inputs = {name: Spec(name, info, max_batch) for name, info in definition.inputs.items()}
        self.outputs = {name: Spec(name, info, max_batch) for name, info in definition.outputs.items()}
        fetches = {name: info.name for name, info in definition.outputs.items()}
        self._run = session.make_callable(fetches, [info.name for info in definition.inputs.values()])

    def read(self, values: Mapping[str, Any], read: Callable[[Spec, Any], np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the inputs of a request as arrays.

        Args:
            values: values by name, as the protocol has them.
            read: method of `Spec` for the protocol.

        Raises:
            Refusal: if the names are not the signature's, or `read` refuses a value.
        """
        if set(values) != set(self.inputs):
            received = ", ".join(sorted(values)) or "none"
            raise invalid(f"Expected the inputs {', '.join(sorted(self.inputs))}. Received: {received}")
        return {name: read(spec, values[name]) for name, spec in self.inputs.items()}

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graph.

        Raises:
            Refusal: if the graph fails, with TensorFlow's code.
        """
        import tensorflow as tf

        try:
            return self._run(*(inputs[name] for name in self.inputs))
        except tf.errors.OpError as error:
            raise Refusal(_CODES[error.error_code], _reason(error.message)) from error


class Servable:
    """One version, loaded in a session of its own.

    Args:
        path: the SavedModel's folder.
        max_batch: see `Spec`.
    """

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
        """Returns the signature of that name; no name means the default one.

        Raises:
            Refusal: if the version has no such signature.
        """
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
    """The versions of a model's folder, of which the latest are served.

    A version is unloaded when its successor is available and its own requests are done. A version that fails to load is
    reported and not tried again, and the versions that it would have replaced stay.

    Args:
        folder: folder of the model; its versions are the folders in it whose names are decimal numbers.
        name: the served name.
        keep: number of the latest versions that are served.
        load: returns the servable of a version's folder.
        report: receives a line for each version that is loaded, unloaded or fails.
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
        wanted = sorted(self.listed() - failed)[-self._keep :]
        for number in wanted:
            version = self._known.get(number)
            if version is None or version.state != "AVAILABLE":
                self._add(number)
        if any(version.number in wanted for version in self.available):
            for version in self.available:
                if version.number not in wanted:
                    self._remove(version)

    def seen(self, name: str, number: int | None = None) -> list[Version]:
        """Returns the versions that were ever seen, in order.

        Args:
            name: name of the model.
            number: number of one version; None: all.

        Raises:
            Refusal: if the model is another one, or no such version was seen.
        """
        self._check_name(name)
        seen = [version for version in self._all() if number in (None, version.number)]
        if not seen:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{_asked(number)} of model {name} was never seen")
        return seen

    @contextlib.contextmanager
    def use(self, name: str, number: int | None) -> Iterator[tuple[int, Servable]]:
        """Yields a version's number and servable, which stays loaded while the block runs.

        Args:
            name: name of the model.
            number: number of the version; None: the latest available one.

        Raises:
            Refusal: if the model is another one, or the version is not available.
        """
        self._check_name(name)
        with self._changed:
            available = [known for known in self._known.values() if known.state == "AVAILABLE"]
            fitting = [known for known in available if number in (None, known.number)]
            if not fitting:
                raise Refusal(grpc.StatusCode.NOT_FOUND, f"{_asked(number)} of model {name} is not available")
            version = max(fitting, key=lambda known: known.number)
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

    def _check_name(self, name: str) -> None:
        if name != self.name:
            message = f"No model {name[:100]!r}: expected {self.name!r}, the one that is served"
            raise Refusal(grpc.StatusCode.NOT_FOUND, message)

    def listed(self) -> set[int]:
        """Returns the numbers of the versions in the folder."""
        return versions_in(self._folder)

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


def _asked(number: int | None) -> str:
    return "Any version" if number is None else f"Version {number}"


def _reason(message: str) -> str:
    """Returns TensorFlow's message as one line, without the place in the graph."""
    return " ".join(message.partition("[[{{")[0].split()).removeprefix("Graph execution error: ")
