"""A script: a search whose best weight is known. `python planted.py FOLDER TUNER TRIALS EPOCHS [SECONDS [WORKERS]]`.

A trial's robust accuracy is highest at beta = 3, three decades being searched, and the nearer to it the longer it has
been trained. Its run writes a history and a classifier of its own, an epoch at a time, and goes on after a kill.
"""

import csv
import json
import math
import os
import sys
import time
from pathlib import Path

import tuning.search
from tuning.configs import digits

BEST = 3.0
SPACE = ({"field": "objective.beta", "min": 0.05, "max": 50.0, "sampling": "log"},)


def config_of(tuner, trials=10, epochs=2, seed=0, **search):
    """A search's config; without finalists, for its classifiers are none."""
    config = digits.get_config("trades").to_dict()
    config.update(seed=seed, epochs=epochs)
    config["search"].update({"space": SPACE, "tuner": tuner, "trials": trials, "finalists": 0, **search})
    return config


def accuracies(beta, epoch):
    """Robust and clean accuracy after an epoch."""
    away = abs(math.log(beta / BEST))
    return math.exp(-away) * (1 - 0.5 ** (epoch + 1)), 0.5 + 0.4 / (1 + beta)


def train(config, path, callbacks, seconds=0.0):
    """Trains nothing, but leaves a run's files and notes in log.txt which epochs it did; returns how many."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    file = path / "history.csv"
    rows = []
    if file.exists():
        with file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
    ahead = range(len(rows), config["epochs"])
    for epoch in ahead:
        time.sleep(seconds)
        robust, clean = accuracies(config["objective"]["beta"], epoch)
        rows.append({"epoch": epoch, "val_accuracy": clean, "val_robust_accuracy": robust})
        (path / "classifier.keras").write_text(str(config["objective"]["beta"]))
        beside = file.with_suffix(".part")
        with beside.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        beside.replace(file)
        print(f"epoch {epoch} in {os.getpid()}", flush=True)
    return len(ahead)


def main():
    folder, tuner, trials, epochs, *more = sys.argv[1:]
    seconds, workers = float(more[0]) if more else 0.0, int(more[1]) if more[1:] else 0
    outcome = tuning.search.search(
        config_of(tuner, int(trials), int(epochs)),
        Path(folder),
        train=lambda config, path, callbacks: train(config, path, callbacks, seconds),
        workers=[[sys.executable, __file__, *sys.argv[1:]]] * workers,
    )
    if outcome is not None:
        print(json.dumps(outcome.winner.trial.values))


if __name__ == "__main__":
    main()
