"""The strategies of `tfrobust train`: by name, and what a TF_CONFIG has to be."""

import json

import pytest
import tensorflow as tf

from commands import strategies
from tfrobust.training.distribution import is_chief, wait_for_all

CLUSTER = {"worker": ["alpha:2222", "beta:2222"]}


def test_without_several_gpus_there_is_no_strategy():
    assert strategies.get("auto") is strategies.get("none") is tf.distribute.get_strategy()


def test_one_process_is_its_own_chief():
    assert is_chief(strategies.get("none"))
    wait_for_all(strategies.get("none"))  # for nobody


def test_a_strategy_of_a_kind_is_made_once():
    assert strategies.get("mirrored") is strategies.get({"name": "mirrored"})


def test_unknown_strategies_are_refused():
    with pytest.raises(ValueError, match="Unknown strategy: expected one of auto, mirrored, multi_worker, none"):
        strategies.get("tpu_pod")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (None, "Received: None"),
        ("", "Received: ''"),
        ("{worker}", "is not JSON"),
        ("[]", r"Received: \[\]"),
        ({"cluster": CLUSTER}, r"Received: .\"cluster\""),
        ({"cluster": {"worker": "alpha:2222"}, "task": {"type": "worker", "index": 0}}, "is not a list of HOST:PORT"),
        ({"cluster": {"worker": ["alpha"]}, "task": {"type": "worker", "index": 0}}, "is not a list of HOST:PORT"),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": 2}}, "worker 2 is not in its cluster: worker 0, w"),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": "0"}}, "is not in its cluster"),
        ({"cluster": CLUSTER, "task": {"type": "chief", "index": 0}}, "task chief 0 is not in its cluster"),
        ({"cluster": {**CLUSTER, "ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}, "other than workers"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_in_words(config, text, monkeypatch):
    value = json.dumps(config) if isinstance(config, dict) else config
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if value is not None:
        monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(ValueError, match=f"Invalid TF_CONFIG: expected .*{text}") as caught:
        strategies.get("multi_worker")
    assert "\n" not in str(caught.value)


def test_a_lost_worker_is_told_in_a_sentence():
    sentence = "start the same command on every machine again"
    with pytest.raises(ConnectionError, match=sentence) as caught, strategies.losses_told():
        raise tf.errors.UnavailableError(None, None, "Collective ops is aborted\nby: a trace")
    assert "\n" not in str(caught.value)
