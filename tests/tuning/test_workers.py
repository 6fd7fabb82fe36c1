"""Several processes: a chief draws, workers run the trials."""

import collections
import json
import os
import re
import signal
import socket
import sys
import time

import pytest

from tuning import launcher
from tuning.search import search
from tuning.trials import Store


def epochs_of(path):
    """Process -> how many epochs it trained."""
    logs = "".join(log.read_text() for log in path.glob("trials/*/log.txt"))
    return collections.Counter(re.findall(r"epoch \d+ in (\d+)", logs))


def values_of(path):
    return sorted(json.dumps([trial.values, trial.epochs]) for trial, _ in Store(path / "trials").all())


def finished(process, seconds=300):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid):
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_two_workers_run_the_trials_of_one_process(planted, start_planted, tmp_path):
    out = finished(start_planted(tmp_path / "two", "random", 12, 2, 0.2, 2))
    outcome = search(planted.config_of("random", 12, 2), tmp_path / "one", planted.train, str)
    assert values_of(tmp_path / "two") == values_of(tmp_path / "one")
    assert json.loads(out.splitlines()[-1]) == outcome.winner.trial.values
    assert sorted(epochs_of(tmp_path / "two").values())[0] >= 4  # both took part
    assert sum(epochs_of(tmp_path / "two").values()) == 24  # and nothing was trained twice
    assert [line[: line.index(":")] for line in out.splitlines()[1:-1]] == [f"Trial {n} of 12" for n in range(1, 13)]
    assert "left" in out and (tmp_path / "two" / "logs" / "worker-2.txt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["hyperband", "bayesian", "grid"])
def test_other_tuners_too(tuner, start_planted, tmp_path):
    out = finished(start_planted(tmp_path, tuner, 8, 3, 0.1, 2))
    assert "objective.beta" in json.loads(out.splitlines()[-1])
    assert len(epochs_of(tmp_path)) == 2


@pytest.mark.slow
def test_a_chief_and_workers_by_hand(planted, start_planted, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def start(name):
        place = {launcher.NAME: name, launcher.HOST: "127.0.0.1", launcher.PORT: port}
        return start_planted(tmp_path, "random", 8, 2, 1.0, **place)  # long enough for both workers to begin

    first, chief, second = start("a"), start("chief"), start("b")
    out = finished(chief)
    assert finished(first) and finished(second) and len(epochs_of(tmp_path)) == 2
    assert len(values_of(tmp_path)) == 8 and "objective.beta" in json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_its_trial_goes_on(planted, start_planted, tmp_path):
    process = start_planted(tmp_path, "random", 4, 12, 0.3, 2)
    until(lambda: len(epochs_of(tmp_path)) == 2 and min(epochs_of(tmp_path).values()) >= 2)
    os.kill(int(next(iter(epochs_of(tmp_path)))), signal.SIGKILL)
    out = finished(process)
    assert "was ended by signal 9; it is started again" in out
    assert len(epochs_of(tmp_path)) == 3 and sum(epochs_of(tmp_path).values()) == 48  # each epoch once
    assert {result.robust_accuracy for _, result in Store(tmp_path / "trials").all()} == {
        planted.accuracies(trial.values["objective.beta"], 11)[0] for trial, _ in Store(tmp_path / "trials").all()
    }


@pytest.mark.slow
def test_workers_do_not_survive_a_killed_launcher(start_planted, tmp_path):
    process = start_planted(tmp_path, "random", 4, 100, 0.3, 2)
    until(lambda: len(epochs_of(tmp_path)) == 2)
    process.kill()
    until(lambda: not any(alive(pid) for pid in epochs_of(tmp_path)), 5)


CRASH = """
import sys
import time

place = sys.argv[1]
print("working", flush=True)
if place == "fails":
    print("TypeError: expected a spoon", file=sys.stderr)
    sys.exit(1)
time.sleep(0 if place == "ends" else 60)
"""


def crew(tmp_path, *places, say=print):
    return launcher.Workers([[sys.executable, "-c", CRASH, place] for place in places], "127.0.0.1", 1, tmp_path, say)


def test_a_worker_that_fails_ends_the_search_with_its_error(tmp_path, capfd):
    with (
        crew(tmp_path, "sleeps", "fails") as workers,
        pytest.raises(ChildProcessError, match=r"Worker 2 .* exit code 1"),
    ):
        until(workers.over)
    assert "expected a spoon" in capfd.readouterr().err
    assert all(process.poll() is not None for process in workers._processes)


def test_a_worker_is_not_started_again_for_ever(tmp_path):
    said = []
    with (
        crew(tmp_path, "sleeps", say=said.append) as workers,
        pytest.raises(ChildProcessError, match="signal 9, 4 times"),
    ):
        while not workers.over():
            workers._processes[0].kill()
            workers._processes[0].wait()
    assert len(said) == launcher.RESTARTS


def test_workers_that_have_ended_are_over(tmp_path):
    with crew(tmp_path, "ends", "ends") as workers:
        until(workers.over)
    assert (tmp_path / "worker-2.txt").read_text() == "working\n"


def test_variables_of_which_one_is_missing_are_refused(planted, tmp_path, monkeypatch):
    monkeypatch.setenv(launcher.HOST, "127.0.0.1")
    with pytest.raises(ValueError, match=r"expected KERASTUNER_TUNER_ID.* Received: KERASTUNER_ORACLE_IP alone"):
        search(planted.config_of("random"), tmp_path / "w", planted.train)


def test_an_address_that_another_chief_has_is_refused(planted, tmp_path, monkeypatch):
    with launcher.serving(None, "127.0.0.1", 0) as (port, _):
        for name, value in ((launcher.NAME, "chief"), (launcher.HOST, "127.0.0.1"), (launcher.PORT, str(port))):
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=f"Expected a free address.*{port}"):
            search(planted.config_of("random"), tmp_path / "w", planted.train, str)
