"""The folder of one run: what is in it, and that it is of this run."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commands.cli import Mistake


def data_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what says which images a run has, as `tfrobust.data.info` and `load` take it."""
    return {name: config["data"].get(name) for name in ("name", "validation", "image_size")}


class Workdir:
    """A run's folder: config.json, classifier.keras, checkpoints/, history.csv, tensorboard/ and what comes after.

    Args:
        path: the folder; made when a run claims it.
    """

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

    def of_phase(self, number: int) -> Workdir:
        """Returns the folder of a phase before the last one, made if it is missing."""
        phase = Workdir(self.path / "phases" / str(number))
        phase.path.mkdir(parents=True, exist_ok=True)
        return phase

    def claim(self, config: Mapping[str, Any]) -> None:
        """Writes the config, or finds the same one there: then the run goes on, without what it left half written.

        Raises:
            Mistake: for a folder that holds another config; it names the fields that differ.
        """
        from tfrobust.utils.files import replacing, sweep  # not at import: that of tensorflow takes seconds

        if self.config.exists():
            self.check(config)
        elif self.path.exists() and (self.classifier.exists() or self.checkpoints.exists()):
            raise Mistake(f"Expected a new --workdir. Received: {self.path}, which holds a classifier of no config")
        else:
            with replacing(self.config) as beside:
                beside.write_text(json.dumps(config, indent=2) + "\n")
        for folder in (self.path, self.saved_model, *self.path.glob("phases/*")):
            sweep(folder)

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuses a config that is not the one of this folder.

        Raises:
            Mistake: for another config; it names the fields that differ.
            FileNotFoundError: where no run has been.
        """
        kept, given = self.read_config(), json.loads(json.dumps(config))
        if kept != given:
            differences = ", ".join(f"{k}: {a!r} there, {b!r} given" for k, a, b in _differences(kept, given))
            raise Mistake(f"Expected a new --workdir, or the config that {self.config} holds. Received: {differences}")

    def read_config(self) -> dict[str, Any]:
        """Returns the run's config.

        Raises:
            FileNotFoundError: where no run has been.
        """
        if not self.config.exists():
            raise FileNotFoundError(
                f"Expected the --workdir of a run of trainers.train. Received: {self.path}, without config.json"
            )
        try:
            return json.loads(self.config.read_text())
        except json.JSONDecodeError as error:
            raise Mistake(f"Invalid file {self.config}: expected JSON. Received: {error}") from error

    def read_history(self) -> list[dict[str, str]]:
        """Returns the rows of the history, one an epoch, none where there is no history; a line cut short is none."""
        if not self.history.exists():
            return []
        with self.history.open(newline="") as file:
            return [row for row in csv.DictReader(file) if row["epoch"].isdigit()]

    def cut_history(self, epochs: int) -> list[dict[str, str]]:
        """Returns the history's first rows and drops those of epochs that will be run again."""
        if not self.history.exists():
            return []
        rows = [row for row in self.read_history() if int(row["epoch"]) < epochs]
        from tfrobust.utils.files import replacing

        with replacing(self.history) as beside, beside.open("w", newline="") as file:
            if rows:  # an empty file lets the logger write its header
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return rows


def _differences(kept: Any, given: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(kept, dict) and isinstance(given, dict):
        keys = sorted(kept.keys() | given.keys())
        return [d for key in keys for d in _differences(kept.get(key), given.get(key), f"{path}.{key}".lstrip("."))]
    return [] if kept == given else [(path, kept, given)]
