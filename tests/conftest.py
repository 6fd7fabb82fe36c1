"""Small networks and data that every test may use."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Each process of a parallel run has a core of its own; threads of several processes would wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# As the commands set it: what a test computes beside a command has to be the same to the bit.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from commands import cli
from tfrobust.models import heads


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
    monkeypatch.setattr(cli.app, "define_help_flags", lambda: None)

    def run(module, *arguments, takes=""):
        before = set(flags.FLAGS)
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as ended:
                cli.run(module.main, module.define_flags, takes)
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


class Batches(keras.utils.PyDataset):
    """Arrays, or dicts of them, in batches."""

    def __init__(self, *arrays, size=10):
        super().__init__()
        self.arrays, self.size = arrays, size

    def __len__(self):
        return -(-len(keras.tree.flatten(self.arrays)[0]) // self.size)

    def __getitem__(self, index):
        rows = slice(self.size * index, self.size * (index + 1))
        return keras.tree.map_structure(lambda part: part[rows], self.arrays)


def generated(batches):
    yield from (batches[index] for index in range(len(batches)))


class Tensor(np.ndarray):
    """As much of a torch tensor as Keras asks for."""

    def cpu(self):
        return self


class DataLoader:
    """As much of `torch.utils.data.DataLoader` as Keras asks for."""

    def __init__(self, *arrays, size=10):
        self.dataset, self.batch_size = arrays[0], size
        self._batches = Batches(*arrays, size=size)

    def __len__(self):
        return len(self._batches)

    def __iter__(self):
        return ([part.view(Tensor) for part in self._batches[index]] for index in range(len(self)))


@pytest.fixture
def loader(monkeypatch):
    """Makes a torch `DataLoader` of arrays: a real one where torch is there, else one that Keras takes for real."""
    try:
        from torch import from_numpy
        from torch.utils import data
    except ImportError:
        torch = types.SimpleNamespace(utils=types.SimpleNamespace(data=types.SimpleNamespace(DataLoader=DataLoader)))
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setattr(DataLoader, "__module__", "torch.utils.data.dataloader")
        return DataLoader
    return lambda *arrays, size=10: data.DataLoader(data.TensorDataset(*map(from_numpy, arrays)), size)


@pytest.fixture
def containers(loader):
    """name -> function of arrays (x, y) that returns the first arguments of `fit`: all containers that Keras takes."""
    return {
        "arrays": lambda *arrays: arrays,
        "tf.data": lambda *arrays: (tf.data.Dataset.from_tensor_slices(arrays).batch(10),),
        "PyDataset": lambda *arrays: (Batches(*arrays),),
        "generator": lambda *arrays: (generated(Batches(*arrays)),),
        "torch": lambda *arrays: (loader(*arrays),),
    }
