"""Data that do not fit into memory are evaluated from files."""

import os

import keras
import numpy as np
import pytest

import tfrobust
from tfrobust.utils import spilled

OPTIONS = {"eps": 0.1, "attacks": ["fgsm", "pgd"], "batch_size": 16, "verbose": False}


@pytest.fixture
def problem():
    keras.utils.set_random_seed(3)
    layers = [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(40, 6, 6, 1)).astype("float32")
    classifier = tfrobust.expose(keras.Sequential(layers))
    return classifier, (x, classifier.predict(x, verbose=0)["logits"].argmax(-1))


def test_images_and_adversaries_in_files_give_the_report_of_memory(problem, monkeypatch, tmp_path):
    in_memory = tfrobust.evaluate(*problem, **OPTIONS)
    monkeypatch.setattr(spilled, "IN_MEMORY", 1000)
    in_files = tfrobust.evaluate(*problem, **OPTIONS, state=tmp_path / "e.state")
    assert isinstance(in_files.adversaries.x, np.memmap) and isinstance(in_files.adversaries.z, np.memmap)
    for array in ("x", "z", "y", "predicted", "fooled_by"):
        assert (getattr(in_files.adversaries, array) == getattr(in_memory.adversaries, array)).all()
    assert 0 < in_files.robust_accuracy == in_memory.robust_accuracy < 1
    assert os.listdir(tmp_path) == ["e.state"]  # the files of images have no names that could remain
    in_files.save(tmp_path / "e.json")
    assert (tfrobust.evaluation.Report.load(tmp_path / "e.json").adversaries.z == in_memory.adversaries.z).all()


def test_an_evaluation_in_files_goes_on_and_is_merged_of_parts(problem, monkeypatch, tmp_path):
    whole = tfrobust.evaluate(*problem, **OPTIONS, probes=0)
    monkeypatch.setattr(spilled, "IN_MEMORY", 1000)
    states = [tmp_path / f"{k}.state" for k in (1, 2)]
    for k, state in enumerate(states, 1):
        for _ in range(2):  # the second time all outcomes are in the state
            tfrobust.evaluate(*problem, **OPTIONS, probes=0, shard=(k, 2), state=state)
    merged = tfrobust.evaluate(*problem, **OPTIONS, probes=0, state=states)
    assert merged.robust_accuracy == whole.robust_accuracy
    assert (merged.adversaries.z == whole.adversaries.z).all()


def test_a_full_disk_says_where_room_is_needed(problem, monkeypatch, tmp_path):
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spilled, "IN_MEMORY", 1000)
    monkeypatch.setattr(spilled.tempfile, "TemporaryFile", lambda dir: Full())
    with pytest.raises(OSError, match=rf"Expected room in {tmp_path} .* Received: No space left on device"):
        tfrobust.evaluate(*problem, **OPTIONS, state=tmp_path / "e.state")
