"""Verification passes what is the classifier, and finds what is not: other weights, changed files, other labels."""

import keras
import numpy as np
import pytest

import tfrobust
from export import session, verify
from export.savedmodel import export_classifier, export_model
from export.verify import Check, verify_export


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Another process is asked in test_savedmodel.py."""
    monkeypatch.setattr(session, "ask", session.answers)


@pytest.fixture
def exported(tmp_path, make_classifier):
    classifier = make_classifier(batch_norm=True)
    return classifier, export_classifier(classifier, tmp_path / "out")


def test_an_export_is_the_classifier_and_is_not_another(exported, batch):
    classifier, version = exported
    options = {"eps": 0.1, "norm": "linf", "precision": "float32"}
    checks = verify_export(version, classifier, *batch, **options)
    assert all(check.holds for check in checks), "\n".join(map(str, checks))
    names = [check.name for check in checks]
    for signature in ("serving_default/clean", "serving_default/adversarial", "logits/clean", "uint8", "predict_bytes"):
        assert any(name.startswith(signature) for name in names)

    moved = keras.models.clone_model(classifier)
    moved.set_weights([1.001 * weights for weights in classifier.get_weights()])
    checks = {check.name: check for check in verify_export(version, moved, *batch, **options)}
    assert not checks["logits of the same batch"].holds
    assert not checks["serving_default/clean: logits"].holds
    assert not checks["predict_bytes/8-bit: probabilities"].holds


def test_labels_may_differ_where_two_are_as_good():
    logits = np.array([[1.0, 1.0 - 1e-6, 0.0], [1.0, 0.5, 0.0]], "float32")
    answers = {"s/x/logits": logits, "s/x/probabilities": np.zeros((2, 3)), "s/x/label": np.array([1, 0])}
    labels = [check for check in verify._compared("s/x", answers, logits, 1e-5) if "labels" in check.name]
    assert [check.found for check in labels] == [0]
    answers["s/x/label"] = np.array([0, 1])
    labels = [check for check in verify._compared("s/x", answers, logits, 1e-5) if "labels" in check.name]
    assert [check.found for check in labels] == [1] and not labels[0].holds


def test_nothing_holds_of_a_nan():
    assert not Check("logits", float("nan"), 1.0).holds


def test_the_command(run_command, tmp_path):
    classifier = tfrobust.models.get("digits")
    classifier.save(tmp_path / "classifier.keras")
    version = export_model(tmp_path / "classifier.keras", tmp_path / "saved_model", data="digits", unevaluated=True)

    code, out, _ = run_command(verify, version.parent, "--eps=0.1", "--images=20", takes="DIR")
    assert code == 0 and out.startswith(f"{version}: 7 files as they were written")
    assert "FAILED" not in out and "robust accuracy, PGD-10" in out
    assert run_command(verify, takes="DIR")[::2] == (2, "Expected DIR. Received: no argument\n")


@pytest.fixture
def wrong(exported, tmp_path, make_classifier):
    """What the command is given: an export without a classifier beside it, and another classifier."""
    make_classifier(batch_norm=True).save(tmp_path / "other.keras")
    return exported[1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{version}/variables"], 1, "the folder of an exported one"),
        (["{version}"], 2, "Expected --data=NAME and --eps"),
        (["{version}", "--data=digits", "--eps=0.1"], 2, "Expected --model=FILE.keras"),
        (["{version}", "--data=digits", "--eps=0.1", "--model={version}/../../other.keras"], 1, "their weights differ"),
        (["{version}", "{version}"], 2, "Unexpected arguments: expected DIR"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(run_command, wrong, arguments, code, words):
    arguments = [argument.format(version=wrong) for argument in arguments]
    found, _, error = run_command(verify, *arguments, takes="DIR")
    assert found == code and words in error


def test_a_changed_file_is_named(run_command, exported):
    (exported[1] / "saved_model.pb").write_bytes(b"changed")
    code, _, error = run_command(verify, exported[1], takes="DIR")
    assert code == 1 and "saved_model.pb was changed" in error
