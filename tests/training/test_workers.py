"""Two workers on this machine, in processes of their own: together they are one, and one may die."""

import csv
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).parent / "workers.py"
WORKER = ROOT / "docs" / "distributed" / "worker.sh"


def addresses():
    """Two that are free now."""
    with socket.socket() as a, socket.socket() as b:
        for each in (a, b):
            each.bind(("localhost", 0))
        return [f"localhost:{each.getsockname()[1]}" for each in (a, b)]


@pytest.fixture
def start(start_process):
    """Starts a command from the project's folder: `start(command, TF_CONFIG or None, **variables)`."""

    def start_one(command, config=None, **variables):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **variables}
        environment.pop("TF_CONFIG", None)
        if config is not None:
            environment["TF_CONFIG"] = json.dumps(config)
        return start_process(command, cwd=ROOT, env=environment)

    return start_one


def together(start, command):
    workers = addresses()
    tasks = [{"type": "worker", "index": index} for index in (0, 1)]
    return [start(command, {"cluster": {"worker": workers}, "task": task}) for task in tasks]


def finish(process, seconds=600):
    _, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err[-3000:]
    return err


@pytest.mark.slow
def test_two_workers_end_as_one_process(start, tmp_path, monkeypatch):
    processes = together(start, [sys.executable, str(SCRIPT), str(tmp_path)])
    monkeypatch.delenv("TF_CONFIG", raising=False)
    runpy.run_path(str(SCRIPT))["train"](tmp_path)  # alone: this one
    for process in processes:
        finish(process)
    first, second, alone = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("0", "1", "alone"))
    assert [run.pop("chief").item() for run in (first, second, alone)] == [True, False, True]
    assert first.keys() == second.keys() == alone.keys()
    for key in alone:
        np.testing.assert_array_equal(first[key], second[key])
        np.testing.assert_allclose(first[key], alone[key], atol=1e-5 * np.abs(alone[key]).max())


@pytest.mark.slow
def test_keras_still_needs_both_work_arounds(start):
    for process in together(start, [sys.executable, str(SCRIPT), "upstream"]):
        finish(process)


def train(start, workdir, index, workers):
    flags = ["--config.objective.name=standard", "--config.data.batch_size=512", "--config.monitor="]
    command = ["bash", str(WORKER), str(index), ",".join(workers), *flags, "--config.evaluation.attacks="]
    return start([*command, "--config.epochs=4", f"--workdir={workdir}"], PYTHON=sys.executable, PAUSE="5")


def trainings(workdir):
    """The processes that train there, without their shells."""
    listed = subprocess.run(["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True, check=True).stdout
    wanted = [line for line in listed.splitlines() if "-m trainers.train" in line and str(workdir) in line]
    return [int(line.split()[0]) for line in wanted if "worker.sh" not in line]


@pytest.mark.slow
def test_a_killed_worker_comes_back_and_the_run_goes_on(start, tmp_path):
    """By the shell file of docs/distributed.md, which starts again what has ended."""
    undisturbed, killed = tmp_path / "a", tmp_path / "b"
    workers = addresses()
    for process in [train(start, undisturbed, index, workers) for index in (0, 1)]:
        finish(process)
    workers = addresses()
    chief = train(start, killed, 0, workers)
    other = train(start, killed, 1, workers)
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and not (killed / "checkpoints" / "ckpt-2.index").exists():
        time.sleep(0.05)
    os.kill(max(trainings(killed)), signal.SIGKILL)  # the one that was started last
    assert "attempt" in finish(other) + finish(chief)
    kept = [keras.models.load_model(run / "classifier.keras").get_weights() for run in (undisturbed, killed)]
    for a, b in zip(*kept, strict=True):
        np.testing.assert_array_equal(a, b)
    with (killed / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [str(epoch) for epoch in range(4)]
    assert {p.name for p in killed.iterdir()} == {p.name for p in undisturbed.iterdir()}
