"""Small networks and data that every test may use."""

import contextlib
import gc
import os
import signal
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from absl import flags

from tfrobust.models import heads
from trainers import _cli


@pytest.fixture(autouse=True)
def fresh():
    """Same weights at every run, and nothing left of the test before."""
    keras.utils.set_random_seed(7)
    yield
    keras.config.set_dtype_policy("float32")
    # Graphs are freed a few at once, for the time grows with the square of their number; and what TensorFlow keeps of a
    # traced function for ever is not looked through again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture
def start_process():
    """Starts a process, as `subprocess.Popen`; what is left of all at the end of the test is killed, with its own."""
    processes = []

    def start(command, **options):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Runs a command in this process, as `python -m` would: `run(module, *arguments)` -> exit code, stdout, stderr."""
    monkeypatch.delenv("TFROBUST_TRACEBACK", raising=False)
    monkeypatch.setattr(_cli.app, "define_help_flags", lambda: None)

    def run(module, *arguments, takes=""):
        before = set(flags.FLAGS)
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as ended:
                _cli.run(module.main, module.define_flags, takes)
        finally:
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)
        out, err = capsys.readouterr()
        return ended.value.code, out, err.split("\r")[-1]  # what stands before is a progress bar

    return run


@pytest.fixture
def make_classifier():
    """A small classifier of 6x6 images, 4 classes: `make(batch_norm=, dropout=, features=, head=)`.

    With `features` it gives those, their map (a map of one position, whose average they are) and what the head gives.
    """

    def make(batch_norm=False, dropout=0.0, regularizer=None, classes=4, features=True, head="dense"):
        x = inputs = keras.Input((6, 6, 1))
        x = keras.layers.Conv2D(4, 3, padding="same", kernel_regularizer=regularizer)(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
        f = keras.layers.Flatten()(x)
        if not features:
            return keras.Model(inputs, {"logits": keras.layers.Dense(classes)(f)})
        feature_map = keras.layers.Reshape((1, 1, -1))(f)
        outputs = heads.make(head, classes)(f, feature_map=feature_map)
        return keras.Model(inputs, {**outputs, "features": f, "feature_map": feature_map})

    return make


@pytest.fixture
def batch():
    """20 images and labels that depend on them: which quarter is brightest."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 20)
    x = rng.uniform(0.2, 0.6, (20, 6, 6, 1)).astype("float32")
    for image, label in zip(x, y, strict=True):
        row, column = 3 * (label // 2), 3 * (label % 2)
        image[row : row + 3, column : column + 3] += 0.3
    return x, y.astype("int32")
