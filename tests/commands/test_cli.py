"""A command prints a user's mistake as one line, and every other error keeps its traceback."""

import os
import sys

import pytest
import tensorflow as tf
from absl import flags

import tfrobust
from commands import cli


def run(error, monkeypatch):
    """Runs a command that raises `error` and returns its exit code."""

    def main(_):
        raise error

    monkeypatch.setattr(sys, "argv", ["command"])
    monkeypatch.delenv("TFROBUST_TRACEBACK", raising=False)
    before = set(flags.FLAGS)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.run(main, lambda: None)
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
    return ended.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (tfrobust.InvalidArgument("Invalid\nvalue."), cli.MISTAKE),
        (cli.Mistake("Invalid value."), cli.MISTAKE),
        (FileNotFoundError("Invalid value."), cli.MISTAKE),
        (FloatingPointError("Invalid value."), cli.MISTAKE),
        (cli.Misuse("Invalid value."), cli.MISUSE),
        (ConnectionError("Invalid value."), cli.LOST),
        (tf.errors.ResourceExhaustedError(None, None, "Invalid value."), cli.MISTAKE),  # a full disk
    ],
)
def test_what_the_user_gave_wrongly_is_one_line(error, code, monkeypatch, capsys):
    assert run(error, monkeypatch) == code
    assert capsys.readouterr() == ("", "Invalid value.\n")


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("0", "0")])
def test_a_command_asks_for_fast_convolutions_unless_the_user_has_chosen(given, kept, monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if given:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    run(cli.Mistake("Invalid value."), monkeypatch)
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == kept


@pytest.mark.parametrize("error", [ValueError("of Keras"), TypeError("a bug"), KeyError("a bug")])
def test_any_other_error_keeps_its_traceback(error, monkeypatch):
    with pytest.raises(type(error), match=str(error.args[0])):
        run(error, monkeypatch)


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    assert run(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr().err == "Stopped. What is complete is kept: the same command goes on from there.\n"


def test_the_public_error_is_a_value_error_that_autograph_leaves_as_it_is():
    assert issubclass(tfrobust.InvalidArgument, ValueError)
    import tensorflow as tf

    def refusing(x):
        if x.shape[0] == 1:
            raise tfrobust.InvalidArgument("Expected two rows.")
        return x

    with pytest.raises(tfrobust.InvalidArgument, match="Expected two rows"):
        tf.function(refusing)(tf.zeros([1]))


def test_a_check_inside_a_graph_raises_the_public_error(make_classifier):
    data = tfrobust.data.load("digits", "validation").map(lambda x, y: (x + 7, y))
    trainer = tfrobust.AdversarialTrainer(tfrobust.models.get("digits"), "standard")
    trainer.compile("adam")
    with pytest.raises(tfrobust.InvalidArgument, match="Invalid pixels"):
        trainer.fit(data, verbose=0)


@pytest.mark.parametrize(
    ("text", "number"), [("0.03", 0.03), ("8/255", 8 / 255), (" 8 / 255", 8 / 255), ("1e-3", 0.001), ("-1/2", -0.5)]
)
def test_a_number_may_be_a_fraction(text, number):
    assert cli.NumberParser().parse(text) == number


@pytest.mark.parametrize("text", ["8/0", "8/", "/255", "eight", "1/2/3", ""])
def test_other_texts_are_no_numbers(text):
    with pytest.raises(ValueError, match="expected a number or a fraction such as 8/255"):
        cli.NumberParser().parse(text)
