"""An evaluation on two devices has the figures of one on one device; in a process of its own, which has two."""

import json
import subprocess
import sys

import pytest

from tfrobust.evaluation import evaluate

SCRIPT = """
import json

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import tfrobust
from tfrobust.evaluation.attack_list import NamedAttack

keras.utils.set_random_seed(7)
inputs = keras.Input((6, 6, 1))
hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(inputs))
classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(hidden)})
x = np.random.default_rng(0).uniform(size=(40, 6, 6, 1)).astype("float32")
y = np.argmax(classifier(x)["logits"], axis=-1)
placed = set()
search = NamedAttack.search

def noted(self, *of):
    found = search(self, *of)

    def run(*arguments):
        z = found(*arguments)
        placed.add(z.device[-5:])
        return z

    return run

NamedAttack.search = noted
reports = []
for devices in (["CPU:0"], ["CPU:0", "CPU:1"]):
    placed.clear()
    attacks = ["pgd", {"name": "cw_linf", "steps": 3, "restarts": 2}]
    options = {"eps": 0.03, "batch_size": 8, "probes": 0, "verbose": False, "devices": devices}
    report = tfrobust.evaluate(classifier, (x, y), attacks=attacks, **options)
    figures = [report.robust_accuracy, [a.by_run for a in report.attacks], float(report.adversaries.z.sum())]
    reports.append({"figures": figures, "z": report.adversaries.z.tolist(), "placed": sorted(placed)})
print(json.dumps(reports))
"""


def test_two_devices_give_the_figures_of_one(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = json.loads(done.stdout.splitlines()[-1])
    assert one["figures"] == two["figures"] and one["z"] == two["z"]
    assert 0 < one["figures"][0] < 1
    assert (one["placed"], two["placed"]) == (["CPU:0"], ["CPU:0", "CPU:1"])


@pytest.mark.parametrize("devices", [["GPU:7"], "CPU:0", [], ["CPU:0", "TPU:0"]])
def test_a_device_that_is_not_there_is_refused(make_classifier, batch, devices):
    with pytest.raises(ValueError, match=r"`devices`: expected a list of some of CPU:0"):
        evaluate(make_classifier(), batch, eps=0.1, devices=devices, verbose=False)


def test_what_cannot_be_copied_stays_on_one_device(make_classifier, batch):
    classifier = make_classifier()
    with pytest.raises(ValueError, match="only a Keras model can be copied"):
        evaluate(lambda z: classifier(z), batch, eps=0.1, devices=["CPU:0", "CPU:0"], verbose=False)
