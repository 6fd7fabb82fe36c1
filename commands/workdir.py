"""The folder of one run: its files, and the check that it belongs to the run's config."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commands.cli import Mistake
from commands.config import completed


def data_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `tfrobust.data.info` and `load` that select a run's images."""
    selecting = {name: config["data"].get(name) for name in ("name", "validation", "image_size")}
    return {**selecting, "on_error": config["data"].get("on_error", "raise")}


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file; raises `Mistake` if the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Mistake(f"Invalid file {path}: expected JSON. Received: {error}") from error


class Workdir:
    """A run's folder: config.json, classifier.keras, checkpoints/, history.csv, tensorboard/, evaluation.json, ..."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.classifier = self.path / "classifier.keras"
        self.checkpoints = self.path / "checkpoints"
        self.history = self.path / "history.csv"
        self.tensorboard = self.path / "tensorboard"
        self.evaluation = self.path / "evaluation.json"
        self.saved_model = self.path / "saved_model"
        self.provenance = self.path / "provenance.json"
        self.data = self.path / "data.json"

    def of_phase(self, number: int) -> Workdir:
        """Returns the folder of a phase before the last one, and creates it if it is missing."""
        phase = Workdir(self.path / "phases" / str(number))
        phase.path.mkdir(parents=True, exist_ok=True)
        return phase

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other trainings out of the folder; the lock ends with its process, however that ends.

        Raises:
            Mistake: if another training holds the folder.
        """
        from tfrobust.utils.files import locked

        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(locked(self.path, wait=False))
            except BlockingIOError as error:
                raise Mistake(
                    f"Expected a --workdir of its own. Received: {self.path}, where a training runs"
                ) from error
            yield

    def claim(self, config: Mapping[str, Any]) -> None:
        """Writes the config, or `check`s it; then deletes incomplete files of a killed run."""
        from tfrobust.utils.files import replacing, sweep  # imported here, because TensorFlow takes seconds

        if self.config.exists():
            self.check(config)
        elif self.path.exists() and (self.classifier.exists() or self.checkpoints.exists()):
            raise Mistake(f"Expected a new --workdir. Received: {self.path}, which has a classifier and no config")
        if not self.config.exists() or self.read_config()["imports"] != list(config.get("imports", ())):
            with replacing(self.config) as beside:
                beside.write_text(json.dumps(config, indent=2) + "\n")
        for folder in (self.path, *self.path.glob("phases/*")):
            sweep(folder)

    def claim_data(self, name: str, digest: str) -> None:
        """Writes the digest of the run's data, or compares it with that of the data with which the run began.

        Splits and batches depend on the files that are there: with other files, images of one split would be in
        another one.

        Raises:
            Mistake: if the data have changed.
        """
        from tfrobust.utils.files import replacing

        if not self.data.exists():
            with replacing(self.data) as beside:
                beside.write_text(json.dumps({"digest": digest}) + "\n")
        elif read_json(self.data)["digest"] != digest:
            raise Mistake(
                f"Expected the data with which the run {self.path} began. Received: {name!r}, whose files or labels "
                "are others now. Restore them, or take a new --workdir"
            )

    def check(self, config: Mapping[str, Any]) -> None:
        """Raises a `Mistake` that names the fields in which a config differs from the one of this folder.

        The field `imports` may differ, because code may have been moved.
        """
        both = self.read_config(), completed(json.loads(json.dumps(self.resumed(config))))
        kept, given = ({**each, "imports": []} for each in both)
        if kept != given:
            differences = ", ".join(f"{k}: {a!r} there, {b!r} given" for k, a, b in _differences(kept, given))
            raise Mistake(f"Expected a new --workdir, or the config of {self.config}. Received: {differences}")

    def resumed(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a config whose `search_dtype` "auto" is what the run of this folder began with, if there is one.

        Otherwise a run could change it halfway, on another machine or by a newer version.
        """
        if config.get("search_dtype") != "auto" or not self.config.exists():
            return dict(config)
        return {**config, "search_dtype": self.read_config()["search_dtype"]}

    def read_config(self) -> dict[str, Any]:
        """Returns the run's config, with the defaults of fields that are newer than the run.

        Raises:
            FileNotFoundError: if the folder has no config.
        """
        if not self.config.exists():
            raise FileNotFoundError(
                f"Expected the --workdir of a run of `tfrobust train`. Received: {self.path}, without config.json"
            )
        return completed({"search_dtype": "float32", **read_json(self.config)})  # older runs do not say it

    def read_history(self) -> list[dict[str, str]]:
        """Returns the rows of the history, one for each epoch, without a last line that was cut short."""
        if not self.history.exists():
            return []
        with self.history.open(newline="") as file:
            return [row for row in csv.DictReader(file) if row["epoch"].isdigit()]

    def cut_history(self, epochs: int) -> list[dict[str, str]]:
        """Returns the rows of the first epochs and deletes the others, whose epochs will be run again."""
        if not self.history.exists():
            return []
        rows = [row for row in self.read_history() if int(row["epoch"]) < epochs]
        from tfrobust.utils.files import replacing

        with replacing(self.history) as beside, beside.open("w", newline="") as file:
            if rows:  # into an empty file the logger writes its own header
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return rows


def _differences(kept: Any, given: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(kept, dict) and isinstance(given, dict):
        keys = sorted(kept.keys() | given.keys())
        return [d for key in keys for d in _differences(kept.get(key), given.get(key), f"{path}.{key}".lstrip("."))]
    return [] if kept == given else [(path, kept, given)]
