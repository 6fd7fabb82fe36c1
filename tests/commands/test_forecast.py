"""The forecast of a run, on a clock that is turned by hand."""

import datetime

import pytest

from commands.forecast import Forecast
from tfrobust.utils.text import duration
from trainers.configs import digits
from trainers.train import run

START = datetime.datetime(2030, 1, 1, 12).timestamp()


class Trainer:
    """Of 9 forwards and 1 backward a step; of 4 and 1 in validation."""

    def cost(self, training=True):
        return (9, 1) if training else (4, 1)


class Run:
    """Calls a forecast as Keras does and keeps what it says."""

    def __init__(self, fits, steps, validation_steps, per_execution=1):
        self.now, self.lines = START, []
        self.steps, self.per_execution = steps, per_execution
        self.forecast = Forecast(fits, steps, validation_steps, self.lines.append, lambda: self.now)

    def fit(self, trainer, epochs, step=1.0, tracing=100.0, between=7.0, first=0):
        self.forecast.set_model(trainer)
        self.forecast.on_train_begin()
        for epoch in range(first, epochs):
            self.forecast.on_epoch_begin(epoch)
            for begin in range(0, self.steps, self.per_execution):
                end = min(begin + self.per_execution, self.steps)
                self.forecast.on_train_batch_begin(begin)
                self.now += tracing + step * (end - begin)
                tracing = 0.0
                self.forecast.on_train_batch_end(begin + self.per_execution - 1, {"loss": 1.0})  # as Keras counts
            self.now += between
            self.forecast.on_epoch_end(epoch)


def time_in(line):
    return line.split("until ")[1].removesuffix(".")


def clock(seconds):
    return f"{datetime.datetime.fromtimestamp(START + seconds):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize("per_execution", [1, 7])
def test_after_20_steps_and_after_two_epochs(per_execution):
    trainer = Trainer()
    run = Run([(trainer, 10)], steps=100, validation_steps=40, per_execution=per_execution)
    run.fit(trainer, 10)
    passes, first, second = run.lines
    assert passes == "A step takes 9 forwards and 1 backwards of its batch; 100 steps an epoch, 10 epochs."
    # A validation has 40 * 5 of the passes of 20 steps: 20 s reckoned; an epoch 120 s.
    done = 21 if per_execution == 1 else 28
    assert first.startswith(f"A step takes 1 s: {duration(1200 - done)} of training left")
    assert time_in(first) == clock(100 + 1200)
    # Measured, it is 107 s, whatever validation was taken for; 8 epochs are left.
    assert second == f"An epoch takes 1.1e+02 s: 14 min of training left, until {clock(100 + 10 * 107)}."


def test_20_steps_may_take_several_epochs_and_what_is_between_is_not_a_step():
    trainer = Trainer()
    run = Run([(trainer, 50)], steps=6, validation_steps=0)
    run.fit(trainer, 50, step=2.0, between=1000.0)
    by_epoch, by_step = run.lines[1:]
    assert by_step.startswith("A step takes 2 s: 9 min of training left")  # 46 epochs and 3 steps, of 2 s
    assert by_epoch.startswith("An epoch takes 1e+03 s: 13 h 30 min")  # 48 of 1012 s


def test_later_fits_and_epochs_that_are_done_already():
    one, two = Trainer(), Trainer()
    run = Run([(one, 10), (two, 5)], steps=100, validation_steps=0)
    run.fit(one, 10, first=7, tracing=0.0, between=0.0)
    assert time_in(run.lines[1]) == clock(300 + 500)
    assert time_in(run.lines[2]) == clock(300 + 500)
    run.fit(two, 5, tracing=0.0, between=0.0)
    assert time_in(run.lines[4]) == clock(300 + 500)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (100, "2 min"), (3599, "1 h 00 min"), (3700, "1 h 02 min"), (90061, "1 d 1 h 01 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_run_says_what_it_will_cost(tmp_path, capsys):
    config = digits.get_config("fast").to_dict()
    config |= {"epochs": 2, "evaluation": {"attacks": "", "eps": 0.15, "norm": "linf"}}
    config["model"]["features"] = 16
    run(config, tmp_path / "w")
    lines = [line for line in capsys.readouterr().out.splitlines() if "takes" in line]
    assert lines[0].startswith("A step takes 2 forwards and 2 backwards of its batch; 21 steps an epoch, 2 epochs.")
    assert "s of training left, until 20" in lines[1]
    assert len(lines) == 3
