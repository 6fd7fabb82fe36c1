"""A training and an evaluation show a bar on a terminal, and plain lines now and then in a log."""

import io
import sys

import numpy as np
import pytest

import tfrobust
from commands import progress
from tfrobust.evaluation import attack_runs


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def lines_of(epochs, seconds, steps=4):
    """Returns the lines of a training whose steps take so many seconds."""
    clock, told = Clock(), []
    shown = progress.Lines(told.append, clock)
    shown.set_params({"epochs": epochs, "steps": steps})
    shown.on_train_begin()
    for epoch in range(epochs):
        shown.on_epoch_begin(epoch)
        for step in range(steps):
            clock.now += seconds
            shown.on_train_batch_end(step, {"loss": 1.25})
        shown.on_epoch_end(epoch, {"loss": 1.25, "val_accuracy": np.float32(0.5)})
    return told


@pytest.mark.parametrize(
    ("epochs", "told"), [(1, [1]), (8, range(1, 9)), (40, range(4, 41, 4)), (23, [*range(3, 22, 3), 23])]
)
def test_short_epochs_have_ten_lines_at_most_and_the_last_one(epochs, told):
    expected = [f"Epoch {epoch}/{epochs}: loss 1.25, val_accuracy 0.5" for epoch in told]
    assert lines_of(epochs, seconds=0.1) == expected and len(expected) <= progress.LINES


def test_long_epochs_have_a_line_every_five_minutes():
    first, second, *_ = lines_of(2, seconds=200)
    assert first == "Epoch 1/2: step 2/4, loss 1.25" and second == "Epoch 1/2: step 4/4, loss 1.25"


def test_a_terminal_has_keras_bar_and_lines_in_its_place(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert progress.of_fit() == (1, [])
    progress.say("A step takes 1 s")
    assert sys.stdout.getvalue() == "\r\033[KA step takes 1 s\n"


def test_a_log_has_lines_alone(capsys):
    verbose, (shown,) = progress.of_fit()
    assert verbose == 0 and isinstance(shown, progress.Lines)
    progress.say("A step takes 1 s")
    assert capsys.readouterr().out == "A step takes 1 s\n"


def evaluated(batch, make_classifier):
    return tfrobust.evaluate(make_classifier(), batch, eps=0.1, attacks=["fgsm"], batch_size=5, probes=0)


def test_an_evaluation_in_a_log_has_a_line_a_minute(batch, make_classifier, monkeypatch, capsys):
    monkeypatch.setattr(attack_runs, "PAUSE", 0.0)
    evaluated(batch, make_classifier)
    err = capsys.readouterr().err
    assert "\r" not in err and "|" not in err
    assert err.splitlines()[-1].startswith("fgsm: 100 % of ") and err.splitlines()[-1].endswith(" passes, 0 s left")
    monkeypatch.undo()
    evaluated(batch, make_classifier)
    assert capsys.readouterr().err == ""


def test_an_evaluation_on_a_terminal_has_a_bar(batch, make_classifier, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    evaluated(batch, make_classifier)
    assert "fgsm:" in sys.stderr.getvalue() and "\r" in sys.stderr.getvalue()
