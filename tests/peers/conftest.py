"""Digits networks that are attacked by this library and by others; run by `make test-peers`, not by `make test`."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import tfrobust

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "runs" / "peers"  # trained once; delete it to train anew
# Narrower than the usual 256: others attack in single steps, and their suite would take many hours. With 64 features
# Madry's training does not leave chance.
FEATURES = {"standard": 64, "madry": 128, "trades": 64}
FIGURES: list[tuple[str, ...]] = []


def pytest_collection_modifyitems(items):
    """Other libraries warn about NumPy, SciPy and TensorFlow: that is their affair."""
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore"))


def trained(row):
    """Returns the classifier of a row of trainers/configs/digits.py."""
    path = KEPT / row / "classifier.keras"
    if not path.exists():
        config = f"--config={ROOT / 'trainers' / 'configs' / 'digits.py'}:{row}"
        command = [sys.executable, "-m", "trainers.train", config, f"--workdir={path.parent}"]
        options = ["--config.evaluation.attacks=", f"--config.model.features={FEATURES[row]}"]
        subprocess.run([*command, *options], cwd=ROOT, check=True, env={**os.environ})
    return keras.models.load_model(path, compile=False)


@pytest.fixture(scope="session")
def networks(images):
    """name -> classifier; each is right on most images, so that attacks have something to find."""
    x, y = images
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = {row: trained(row) for row in FEATURES}
    for row, network in made.items():
        assert np.mean(np.argmax(network(x)["logits"], -1) == y) > 0.8, f"the network {row!r} has not learned"
    return made


@pytest.fixture(scope="session")
def images():
    """The first 200 test images and labels."""
    batches = list(tfrobust.data.load("digits", "test"))
    x, y = (np.concatenate([np.asarray(batch[part]) for batch in batches])[:200] for part in (0, 1))
    return x, y.astype("int32")


@pytest.fixture(scope="session")
def figures():
    """Rows (attack, network, images, who, robust accuracy, seconds), printed at the end."""
    return FIGURES


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("robust accuracy")
        for line in FIGURES:
            terminalreporter.write_line("| " + " | ".join(line) + " |")
