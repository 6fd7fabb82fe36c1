"""An evaluation that was killed goes on where it was, with the figures of one that was not."""

import contextlib
import functools
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import attacks
from tfrobust.evaluation import evaluate

EPS = 0.03
SEARCHES = {"first": {"name": "pgd", "steps": 2, "restarts": 3}, "second": {"name": "cw_linf", "steps": 3}}


class Configured:
    """An attack that a later evaluation recognizes by its name and settings."""

    def __init__(self, search, **settings):
        self.name, self._search, self._settings = "configured", search, settings

    def get_config(self):
        return self._settings

    def __call__(self, classify, x, y):
        return self._search(classify, x, y)


def outside(classify, x, y):
    return x + 2 * EPS


def shifted(classify, x, y, by=0.001):
    return np.clip(x + by, 0, 1)


def resumable(classifier, data, state=None, **options):
    given = {"eps": EPS, "attacks": list(SEARCHES.values()), "batch_size": 4, "probes": 0, "verbose": False}
    return evaluate(classifier, data, state=state, **{**given, **options})


@pytest.fixture
def case(make_classifier, batch):
    """A classifier that is right on most images, of which some are robust."""
    classifier, (x, _) = make_classifier(), batch
    y = np.argmax(classifier(x)["logits"], axis=-1)
    y[3] = (y[3] + 1) % 4
    return classifier, (x, y)


def same(report, other):
    for name in ("clean_accuracy", "robust_accuracy", "robust_accuracy_8bit", "alarms"):
        assert getattr(report, name) == getattr(other, name)
    for result, its in zip(report.attacks, other.attacks, strict=True):
        assert {**vars(result), "seconds": 0} == {**vars(its), "seconds": 0}
    for name in ("z", "predicted", "clean_predicted", "fooled_by"):
        np.testing.assert_array_equal(getattr(report.adversaries, name), getattr(other.adversaries, name))


def killed_after(batches, monkeypatch):
    """Makes the evaluation die before it writes one batch more."""
    from tfrobust.evaluation.resume import State

    keep, count = State.keep, iter(range(batches))

    def dying(self, *args):
        if next(count, None) is None:
            raise KeyboardInterrupt
        keep(self, *args)

    monkeypatch.setattr(State, "keep", dying)


@pytest.mark.parametrize(
    ("batches", "columns"), [pytest.param(0, False, marks=pytest.mark.slow), (7, False), (4, True)]
)
def test_resumed_is_undisturbed(case, tmp_path, monkeypatch, batches, columns):
    classifier, batch = case
    options = {"attacks": SEARCHES} if columns else {}
    undisturbed = resumable(classifier, batch, **options)
    assert 0 < undisturbed.robust_accuracy < undisturbed.clean_accuracy
    with monkeypatch.context() as patch:
        killed_after(batches, patch)
        with pytest.raises(KeyboardInterrupt):
            resumable(classifier, batch, tmp_path / "deep" / "run.state", **options)
    assert batches_in(tmp_path / "deep" / "run.state") == batches
    same(resumable(classifier, batch, tmp_path / "deep" / "run.state", **options), undisturbed)


@pytest.mark.parametrize("columns", [False, True])
def test_parts_give_the_figures_of_one_process(case, tmp_path, monkeypatch, columns):
    classifier, batch = case
    options = {"attacks": SEARCHES if columns else [*SEARCHES.values(), outside], "probes": 8}
    whole = resumable(classifier, batch, **options)
    states = [tmp_path / f"{k}.state" for k in (1, 2, 3)]
    with monkeypatch.context() as patch:  # one is killed and started again
        killed_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            resumable(classifier, batch, states[0], shard=(1, 3), **options)
    parts = [resumable(classifier, batch, state, shard=(k, 3), **options) for k, state in enumerate(states, 1)]
    assert [part.images for part in parts] == [7, 7, 6]
    assert "figures of part 2 of 3 of the 20 images" in " ".join(parts[1].notes)
    assert np.average([part.robust_accuracy for part in parts], weights=[7, 7, 6]) == pytest.approx(
        whole.robust_accuracy
    )
    with monkeypatch.context() as patch:
        killed_after(0, patch)  # nothing is left to be searched
        joined = resumable(classifier, batch, states, **options)
    same(joined, whole)
    assert joined.notes == whole.notes and joined.curves == whole.curves


def test_a_part_that_is_not_finished_is_finished_where_it_is_joined(case, tmp_path):
    classifier, batch = case
    resumable(classifier, batch, tmp_path / "1.state", shard=(1, 2))
    same(resumable(classifier, batch, [tmp_path / "1.state"]), resumable(classifier, batch))


def test_parts_of_a_callable(case, tmp_path):
    classifier, (x, y) = case

    def classify(z):
        return {"logits": classifier(z)["logits"]}

    states = [tmp_path / f"{k}.state" for k in (1, 2)]
    for k, state in enumerate(states, 1):
        resumable(classify, (x, y), state, shard=(k, 2))
    same(resumable(classify, (x, y), states), resumable(classify, (x, y)))


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 21), (1, 0), (1.5, 3), (1,), (True, 2)])
def test_a_part_that_is_none_is_refused(case, shard):
    with pytest.raises(ValueError, match=r"`shard`: expected \(k, n\)"):
        resumable(*case, shard=shard)


def test_parts_of_other_evaluations_and_missing_ones_are_refused(case, tmp_path):
    classifier, batch = case
    states = [tmp_path / f"{k}.state" for k in (1, 2)]
    for k, state in enumerate(states, 1):
        resumable(classifier, batch, state, shard=(k, 2), seed=k)
    with pytest.raises(ValueError, match=r"1.state is of another evaluation.*seed \(1 there, 2 here\)"):
        resumable(classifier, batch, states, seed=2)
    with pytest.raises(FileNotFoundError, match=r"the state of a part. Received: .*3.state"):
        resumable(classifier, batch, [states[0], tmp_path / "3.state"], seed=1)
    assert not (tmp_path / "3.state").exists()


def test_what_was_found_is_not_looked_for_again(case, tmp_path):
    classifier, batch = case
    calls = []

    def counted(classify, x, y):
        calls.append(len(x))
        return tf.clip_by_value(x + EPS, 0, 1)

    numbers = {"seed": np.int64(0), "batch_size": np.int32(4)}
    first = resumable(classifier, batch, tmp_path / "run.state", attacks=[Configured(counted), "fgsm"], **numbers)
    assert calls
    calls.clear()
    again = resumable(classifier, batch, tmp_path / "run.state", attacks=[Configured(counted), "fgsm"])
    same(first, again)
    assert not calls
    for result, its in zip(first.attacks, again.attacks, strict=True):
        assert result.seconds == its.seconds > 0  # what it took, not what reading took
    assert [path.name for path in tmp_path.iterdir()] == ["run.state"]  # nothing beside it


def test_counts_for_alarms_are_kept_too(case, tmp_path):
    classifier, batch = case
    reports = [resumable(classifier, batch, tmp_path / "run.state", attacks=[outside]) for _ in range(2)]
    assert any("of outside" in alarm for alarm in reports[0].alarms)
    same(*reports)


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({"eps": 0.05}, r"eps \(0.03 there, 0.05 here\)"),
        ({"seed": 3}, r"seed \(0 there, 3 here\)"),
        ({"batch_size": 5}, "batch_size"),
        ({"attacks": [{"name": "pgd", "steps": 3}]}, "attacks"),
        ({"attacks": SEARCHES}, "columns"),
        ({"mask": np.ones((6, 6, 1))}, "mask"),
        ({"data": True}, "data"),
        ({"weights": True}, "classifier"),
    ],
)
def test_the_state_of_another_evaluation_is_refused(case, tmp_path, options, differs):
    (classifier, (x, y)), options = case, dict(options)
    resumable(classifier, (x, y), tmp_path / "run.state", attacks=["fgsm"])
    options.setdefault("attacks", ["fgsm"])
    if options.pop("weights", False):
        variable = classifier.trainable_variables[0]
        variable.assign(variable + 1e-3)
    if options.pop("data", False):
        x = x + np.float32(1e-4)
    with pytest.raises(ValueError, match=f"of another evaluation.*What differs: .*{differs}"):
        resumable(classifier, (x, y), tmp_path / "run.state", **options)


def test_a_callable_is_told_by_what_it_predicts(tmp_path):
    x, y = np.linspace(0, 1, 12, dtype="float32").reshape(12, 1, 1, 1), np.zeros(12, int)

    def classify(threshold):
        return lambda z: {"logits": 9 * tf.stack([threshold - z[:, 0, 0, 0], z[:, 0, 0, 0] - threshold], axis=-1)}

    first = resumable(classify(0.5), (x, y), tmp_path / "run.state")
    same(resumable(classify(0.5), (x, y), tmp_path / "run.state"), first)
    with pytest.raises(ValueError, match="What differs: classifier"):
        resumable(classify(0.7), (x, y), tmp_path / "run.state")


def test_weights_alone_do_not_tell_a_classifier(case, tmp_path):
    classifier, (x, y) = case
    resumable(classifier, (x, y), tmp_path / "run.state")
    scaled = keras.layers.Rescaling(1e4)(classifier.output["logits"])
    other = keras.Model(classifier.input, {**classifier.output, "logits": scaled})
    with pytest.raises(ValueError, match="What differs: classifier"):
        resumable(other, (x, y), tmp_path / "run.state")
    called = [lambda z: {"logits": classifier(z)["logits"]}, lambda z: {"logits": 1e4 * classifier(z)["logits"]}]
    resumable(called[0], (x, y), tmp_path / "called.state")
    with pytest.raises(ValueError, match="What differs: classifier"):
        resumable(called[1], (x, y), tmp_path / "called.state")


def test_callables_are_told_by_their_settings_or_their_name(case, tmp_path):
    first = resumable(*case, tmp_path / "run.state", attacks=[Configured(shifted, by=0.001)])
    same(resumable(*case, tmp_path / "run.state", attacks=[Configured(shifted, by=0.001)]), first)
    with pytest.raises(ValueError, match="What differs: attacks"):
        resumable(*case, tmp_path / "run.state", attacks=[Configured(shifted, by=0.05)])
    resumable(*case, tmp_path / "named.state", attacks={"A": shifted})
    with pytest.raises(ValueError, match="What differs: attacks"):
        resumable(*case, tmp_path / "named.state", attacks={"A": outside})
    compiled = tf.function(lambda classify, x, y: x)
    compiled.__wrapped__ = outside  # as `tf.function` leaves it on a function of a module
    resumable(*case, tmp_path / "compiled.state", attacks=[compiled])


class Plain:
    def __call__(self, classify, x, y):
        return x

    search = __call__


def local(classify, x, y):
    return x


local.__qualname__ = "make.<locals>.local"


@pytest.mark.parametrize(
    "attack",
    [
        lambda classify, x, y: x,
        local,
        functools.partial(shifted, by=0.05),
        Plain(),
        Plain().search,
        attacks.pgd(eps=EPS, steps=1).maximizing(lambda views: attacks.view_losses.adversarial_cross_entropy(views)),
    ],
    ids=["lambda", "local", "partial", "object", "method", "loss"],
)
def test_a_callable_that_is_not_told_from_others_takes_no_state(case, tmp_path, attack):
    with pytest.raises(ValueError, match=r"`state` needs attacks .* can recognize: .* at the top of a"):
        resumable(*case, tmp_path / "run.state", attacks=[attack])
    assert not (tmp_path / "run.state").exists()
    resumable(*case, attacks=[attack])


def test_a_source_of_transfer_is_told_by_its_weights(case, make_classifier, tmp_path):
    (target, batch), source = case, make_classifier()
    crossed = attacks.transfer(source, {"name": "pgd", "steps": 2}, eps=EPS)
    resumable(target, batch, tmp_path / "run.state", attacks=[crossed])
    source.set_weights([weight + 0.1 for weight in source.get_weights()])
    with pytest.raises(ValueError, match="What differs: attacks"):
        resumable(target, batch, tmp_path / "run.state", attacks=[crossed])


def test_files_that_are_no_state(case, tmp_path):
    (tmp_path / "text").write_text("no state " * 100)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE cats (name TEXT)")
    other.commit()
    other.close()
    for path in (tmp_path / "text", tmp_path / "other", tmp_path):
        with pytest.raises(ValueError, match="Invalid value for `state`: expected a state file"):
            resumable(*case, path)
    assert (tmp_path / "text").read_text().startswith("no state")


def test_one_evaluation_at_a_time(case, tmp_path):
    classifier, batch = case

    def second(classify, x, y):
        with pytest.raises(ValueError, match=r"run.state is in use"):
            resumable(classifier, batch, tmp_path / "run.state", attacks=[Configured(second)])
        return x

    resumable(classifier, batch, tmp_path / "run.state", attacks=[Configured(second)])


@pytest.mark.slow
def test_a_process_that_is_killed(case, tmp_path):
    classifier, batch = case
    classifier.save(tmp_path / "classifier.keras")
    np.savez(tmp_path / "data.npz", x=batch[0], y=batch[1])
    script = textwrap.dedent(
        """
        import sys, time
        import keras, numpy as np
        import tfrobust

        folder, state = sys.argv[1:]
        class Slow:
            name = "slow"
            def get_config(self):
                return {}
            def __call__(self, classify, x, y):
                with open(state + ".calls", "a") as calls:
                    calls.write(".")
                time.sleep(0.3)
                return np.clip(x + 0.03 * np.sign(np.sin(np.arange(36).reshape(6, 6, 1))), 0, 1)

        data = np.load(folder + "/data.npz")
        classifier = keras.models.load_model(folder + "/classifier.keras")
        tfrobust.evaluate(classifier, (data["x"], data["y"]), eps=0.03, attacks=[Slow(), "fgsm"], batch_size=2,
            probes=0, state=state, verbose=False).save(state + ".json")
        """
    )
    (tmp_path / "run.py").write_text(script)
    state = tmp_path / "run.state"
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path), str(state)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    log = tmp_path / "run.state.calls"
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while not log.exists() or log.stat().st_size < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = batches_in(state)
    assert done >= 3
    assert not (tmp_path / "run.state.json").exists()

    class Slow:
        name = "slow"
        calls = 0

        def get_config(self):
            return {}

        def __call__(self, classify, x, y):
            Slow.calls += 1
            return np.clip(x + 0.03 * np.sign(np.sin(np.arange(36).reshape(6, 6, 1))), 0, 1)

    given = {"eps": EPS, "attacks": [Slow(), "fgsm"], "batch_size": 2, "probes": 0, "verbose": False}
    classifier = keras.models.load_model(tmp_path / "classifier.keras")
    undisturbed = evaluate(classifier, batch, **given)
    whole, Slow.calls = Slow.calls, 0
    same(evaluate(classifier, batch, state=state, **given), undisturbed)
    assert Slow.calls == whole - done < whole


def batches_in(state):
    """How many batches a state holds, each of which took a time of its own."""
    with contextlib.closing(sqlite3.connect(state)) as file:
        return file.execute("SELECT count(*) FROM (SELECT DISTINCT place, run, seconds FROM outcomes)").fetchone()[0]
