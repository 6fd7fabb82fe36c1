"""Under another backend than TensorFlow everything that needs it says so; in a process of its own."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("jax")

SCRIPT = """
import tempfile

import keras
import numpy as np

import tfrobust
from export import savedmodel
from tfrobust import attacks, callbacks, evaluation, interpret

inputs = keras.Input((8, 8, 1))
small = keras.Sequential([inputs, keras.layers.Flatten(), keras.layers.Dense(4)])
classifier = tfrobust.expose(small)
x, y = np.zeros((2, 8, 8, 1), "float32"), np.zeros(2, "int32")
small.compile("sgd", "mse")
folder = tempfile.mkdtemp()
doors = {
    "AdversarialTrainer": lambda: tfrobust.AdversarialTrainer(classifier, "madry", "pgd"),
    "evaluate": lambda: tfrobust.evaluate(classifier, (x, y), eps=0.1),
    "noise": lambda: evaluation.noise(classifier, (x, y)),
    "corruptions": lambda: evaluation.corruptions(classifier, (x, y)),
    "an attack": lambda: attacks.pgd(eps=0.1)(classifier, x, y),
    "a search": lambda: attacks.pgd(eps=0.1).ascend(lambda z: z[:, 0, 0, 0], x),
    "an attack on the margin": lambda: attacks.cw_linf(eps=0.1)(classifier, x, y),
    "a query attack": lambda: attacks.square(eps=0.1)(classifier, x, y),
    "a cascade": lambda: attacks.autoattack(eps=0.1)(classifier, x, y),
    "gradients": lambda: interpret.input_gradients(classifier, x, y),
    "coverage": lambda: interpret.coverage({"a": classifier}, (x, y)),
    "study": lambda: interpret.study({"a": classifier}, (x, y), eps=0.1),
    "checkpoints": lambda: callbacks.Checkpoints(small, folder),
    "export": lambda: savedmodel.export_classifier(classifier, folder),
}
for name, door in doors.items():
    try:
        door()
    except ValueError as error:
        text = str(error)
        assert "expected KERAS_BACKEND=tensorflow. Received: the backend 'jax'" in text, (name, text)
        assert "losses, layers, networks, balls and step rules work" in text and "\\n" not in text, (name, text)
    else:
        raise AssertionError(name)
logits = classifier(x)["logits"]
assert tfrobust.losses.cross_entropy(logits, y).shape == (2,)
print("all doors")
"""


def test_every_door_that_needs_tensorflow_says_so_under_jax():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0 and "all doors" in done.stdout, done.stderr[-3000:]
