"""Reports are saved whole, load equal, read well; alarms ring for what they name and nothing else."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import attacks
from tfrobust.evaluation import Report, evaluate

X = np.linspace(0.1, 0.9, 6, dtype="float32").reshape(6, 1, 1, 1) * np.ones((6, 3, 3, 1), "float32")
Y = np.array([0, 0, 0, 1, 1, 1])


def classify(z):
    mean = tf.reduce_mean(z, axis=(1, 2, 3))
    return {"logits": 9 * tf.stack([0.5 - mean, mean - 0.5], axis=-1)}


def report(classifier=classify, attacks=("fgsm", "pgd"), **options):
    given = attacks if isinstance(attacks, dict) else list(attacks)
    return evaluate(classifier, (X, Y), eps=0.1, attacks=given, **{"verbose": False, "probes": 0, **options})


def test_round_trip(tmp_path):
    by_hand = attacks.GradientAttack(attacks.Linf(0.1), attacks.Sign(0.05), steps=2)
    with_loss = attacks.pgd(eps=np.float32(0.1), loss=lambda views: -views.adv["logits"][:, 0])
    saved = report(attacks=["pgd", by_hand, with_loss, lambda c, x, y: x], seed=np.int64(3))
    saved.save(tmp_path / "deep" / "evaluation.json")
    loaded = Report.load(tmp_path / "deep" / "evaluation.json")
    assert loaded == saved
    np.testing.assert_array_equal(loaded.robust, saved.robust)
    assert saved.robust.shape == (6,)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["evaluation.json", "evaluation.npz"]
    written = json.loads((tmp_path / "deep" / "evaluation.json").read_text())
    assert written["robust_accuracy"] == pytest.approx(4 / 6)
    assert written["versions"] == {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "tfrobust": tfrobust.__version__,
    }
    assert (written["images"], written["classes"], written["seed"], written["batch_size"]) == (6, 2, 3, 256)
    assert written["attacks"][1]["settings"]["step"] == "Sign"


def test_everything_of_a_report_is_saved(tmp_path):
    cascade = attacks.Cascade(
        [attacks.cw_linf(eps=0.1, steps=n, mask=np.ones((3, 3, 1))) for n in (2, 9)], ["one", "two"]
    )
    saved = report(attacks={"both": cascade, "fgsm": "fgsm"}, probes=6, mask=np.ones((3, 3, 1)))
    saved.save(tmp_path / "evaluation.json")
    loaded = Report.load(tmp_path / "evaluation.json")
    assert loaded == saved
    assert loaded.attacks[0].parts[1].name == "two"
    assert set(loaded.curves) == {"eps", "steps"} and loaded.probe_images == 6
    assert loaded.notes == saved.notes != ()
    assert loaded.robust_accuracy_8bit is not None and loaded.seconds > 0
    for name in ("x", "z", "y", "clean_predicted", "predicted", "fooled_by", "mask"):
        np.testing.assert_array_equal(getattr(loaded.adversaries, name), getattr(saved.adversaries, name))


def test_a_report_of_an_older_version_loads(tmp_path):
    report().save(tmp_path / "x.json")
    written = json.loads((tmp_path / "x.json").read_text())
    for name in ("notes", "robust_accuracy_8bit", "curves", "probe_images", "seconds", "adversaries"):
        del written[name]
    for result in written["attacks"]:
        for name in ("kind", "attacked", "fooled", "runs", "parts"):
            del result[name]
    (tmp_path / "x.json").write_text(json.dumps(written))
    loaded = Report.load(tmp_path / "x.json")
    assert loaded.adversaries is None and loaded.robust is None and loaded.robust_accuracy_8bit is None
    assert "in 8 bits" not in str(loaded)


def test_files_that_are_no_report(tmp_path):
    for text in ("", "[]", "{}", '{"attacks": [], "alarms": [], "checks": [], "bounds": []}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match="expected a file that Report"):
            Report.load(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path / "absent.json")


def test_reports_are_frozen_and_readable():
    it = report()
    with pytest.raises(AttributeError):
        it.robust_accuracy = 1.0
    lines = str(it).splitlines()
    assert lines.pop(2).split()[:4] == ["in", "8", "bits", "66.67"]
    assert lines[0].split() == ["clean", "accuracy", "100.00", "%", "of", "6", "images", "in", "2", "classes"]
    assert "66.67 %" in lines[1] and "linf, eps=0.1" in lines[1]
    assert [line.split()[0] for line in lines[2:4]] == ["fgsm", "pgd"]
    assert "steps=10" in lines[3]
    assert lines[-1].startswith("checked: nan, probabilities, random")


def test_a_sound_classifier_raises_no_alarm():
    it = report()
    assert it.alarms == ()
    assert it.checks[:3] == ("nan", "probabilities", "random")


def test_probabilities_raise_an_alarm():
    it = report(lambda z: {"logits": tf.exp(tf.nn.log_softmax(classify(z)["logits"]))})
    assert len(it.alarms) == 1 and "probabilities" in it.alarms[0]
    assert str(it).startswith("ALARM: The logits look like probabilities")


def test_nan_raises_an_alarm_and_counts_as_wrong():
    def broken(z):
        dark = tf.reduce_mean(z, axis=(1, 2, 3), keepdims=True)[:, :, 0, 0] < 0.2
        return {"logits": tf.where(dark, np.nan, classify(z)["logits"])}

    it = report(broken, attacks=[lambda c, x, y: tf.maximum(x - 0.1, 0.0)])
    assert it.clean_accuracy == pytest.approx(5 / 6)
    assert it.robust_accuracy == pytest.approx(3 / 6)
    assert len(it.alarms) == 1 and "(1 under clean, 1 under <lambda>)" in it.alarms[0]


@pytest.mark.parametrize("size", [0.5, 1e-3])
def test_random_classifiers_raise_an_alarm(size):
    def noisy(z):
        logits = classify(z)["logits"]
        return {"logits": logits + size * tf.random.normal(tf.shape(logits))}

    it = report(noisy)
    assert len(it.alarms) == 1 and "The classifier is random" in it.alarms[0]
