"""kill -9 at random moments: the run that is started again ends bit-identical to one that was never disturbed."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNS, KILLS = 4, 5

# Everything that has a state: dropout, BatchNorm, momentum, augmentation, random starts, schedules, two phases.
CONFIG = """
import keras

import tfrobust
from commands import config as _base


@tfrobust.models.register
def killed(input_shape=(8, 8, 1), classes=10):
    x = pixels = keras.Input(input_shape)
    for strides in (1, 2):
        x = keras.layers.Conv2D(8, 3, strides, padding="same")(x)
        x = keras.layers.BatchNormalization(momentum=0.5)(x)
        x = keras.layers.Dropout(0.2)(keras.layers.ReLU()(x))
    return keras.Model(pixels, {"logits": keras.layers.Dense(classes)(keras.layers.Flatten()(x))})


def get_config():
    return _base.build({
        "data": {"name": "digits", "batch_size": 128, "validation": 0.1, "augment": {"pad": 1, "flip": False},
                 "steps_per_epoch": 7},
        "model": {"name": "killed"},
        "attack": _base.pgd(_base.linear(0.05, 0.15, 4), 3, 0.05),
        "learning_rate": _base.linear(0.02, 0.002, 4),
        "phases": (
            {"objective": {"name": "standard"}, "epochs": 4, "monitor": "val_accuracy"},
            {"objective": {"name": "trades"}, "epochs": 6, "monitor": "val_robust_accuracy"},
        ),
        "evaluation": {"attacks": ["fgsm"], "eps": 0.15},
    })
"""


class Run:
    """`tfrobust train` in a folder of its own, which can be killed and started again."""

    def __init__(self, folder):
        self.workdir = folder / "w"
        self.config = folder / "killed.py"
        folder.mkdir(exist_ok=True)
        self.config.write_text(CONFIG)
        self.log = folder / "log.txt"
        self.process = None

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainers.train", f"--config={self.config}", f"--workdir={self.workdir}"],
                cwd=ROOT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdout=log,
                stderr=log,
            )

    def finish(self):
        code = self.process.wait(timeout=300)
        assert code == 0, self.log.read_text()

    def kill_when(self, moment):
        """Kills the process once the moment is there; returns False where it has ended before."""
        while self.process.poll() is None:
            if moment():
                self.process.kill()
                self.process.wait()
                return True
            time.sleep(0.0005)
        return False

    def result(self):
        """All that has to be equal: weights, histories, figures, and the names of the files."""
        report = json.loads((self.workdir / "evaluation.json").read_text())
        kept = [self.workdir / "phases/1", self.workdir]
        return {
            "weights": [keras.models.load_model(path / "classifier.keras").get_weights() for path in kept],
            "history": [(path / "history.csv").read_text() for path in kept],
            "figures": [report["clean_accuracy"], report["robust_accuracy"]],
            "checkpoints": [sorted(p.name for p in (path / "checkpoints").iterdir()) for path in kept],
            "files": sorted(str(p.relative_to(self.workdir)) for p in self.workdir.glob("[!t]*")),
            "left over": sorted(str(p) for p in self.workdir.rglob(".*")),
            "exported": [p.name for p in (self.workdir / "saved_model").iterdir()],
        }


def assert_equal(run, undisturbed):
    result = run.result()
    for name, expected in undisturbed.items():
        if name == "weights":
            for a, b in zip(keras.tree.flatten(result[name]), keras.tree.flatten(expected), strict=True):
                np.testing.assert_array_equal(a, b)
        else:
            assert result[name] == expected, name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What an undisturbed run leaves, when its folder is there and when it ends, in seconds from its start."""
    run = Run(tmp_path_factory.mktemp("undisturbed"))
    started = time.monotonic()
    run.start()
    while not run.workdir.exists():
        assert run.process.poll() is None, run.log.read_text()
        time.sleep(0.01)
    begins = time.monotonic() - started
    run.finish()
    return run.result(), begins, time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RUNS))
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(seed, undisturbed, tmp_path):
    expected, begins, ends = undisturbed
    draw = random.Random(seed)
    run, kills = Run(tmp_path), 0
    for _ in range(KILLS):
        moment = time.monotonic() + draw.uniform(begins, begins + 0.4 * (ends - begins))
        run.start()
        kills += run.kill_when(lambda moment=moment: time.monotonic() > moment)  # what is left may take less time
    run.start()
    run.finish()
    assert kills > KILLS // 2
    assert_equal(run, expected)


# Moments that a random one seldom meets.
MOMENTS = {
    "the first save": "phases/1/checkpoints/ckpt-1_temp*",
    "a classifier is kept": "phases/1/.*-classifier.keras",
    "between phases": "checkpoints",
    "a later save": "checkpoints/ckpt-2_temp*",
    "evaluation": "evaluation.state",
    "export": "saved_model/.*",
}


@pytest.mark.slow
def test_a_run_killed_while_it_writes_ends_as_if_it_had_not_been(undisturbed, tmp_path):
    expected, *_ = undisturbed
    run = Run(tmp_path)
    for pattern in MOMENTS.values():
        run.start()
        assert run.kill_when(lambda pattern=pattern: any(run.workdir.glob(pattern))), run.log.read_text()
    run.start()
    run.finish()
    assert_equal(run, expected)
