"""Phases: consecutive fits of one classifier, frozen layers, files to start from, a paper's figures beside ours."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import tfrobust
from commands import build
from commands import config as _base
from commands.paper import beside_paper
from commands.workdir import Workdir
from trainers.configs import digits
from trainers.train import run


def small(**changes):
    config = json.loads(json.dumps(digits.get_config("aelfs").to_dict()))
    config["attack"]["steps"] = 2
    config["data"]["batch_size"] = 512
    config["evaluation"]["attacks"] = ""
    standard = {"objective": {"name": "standard"}, "learning_rate": 1e-2, "epochs": 2, "monitor": "val_accuracy"}
    adversarial = {"frozen": ["head"], "epochs": 2, "learning_rate": 1e-2}
    final = {"objective": {"name": "madry"}, "frozen": [], "epochs": 1, "optimizer": {"name": "sgd"}, "monitor": ""}
    return {**config, "phases": [standard, adversarial, final], **changes}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_network):
    """A finished run's folder; beside it `killed-N`, what a kill after the Nth epoch would have left of it."""
    path = tmp_path_factory.mktemp("phases") / "w"
    whole, done = tfrobust.callbacks.Checkpoints.on_epoch_end, []

    def remembered(self, epoch, logs=None):
        whole(self, epoch, logs)
        done.append(epoch)
        shutil.copytree(path, path.with_name(f"killed-{len(done)}"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfrobust.callbacks.Checkpoints, "on_epoch_end", remembered)
        run(small(fine_tune=small_network), path)
    return path


def weights(path):
    return keras.models.load_model(path).get_weights()


def test_each_phase_goes_on_with_the_classifier_of_the_one_before(undisturbed):
    phases = [undisturbed / "phases/1", undisturbed / "phases/2", undisturbed]
    names = ["clean_cross_entropy", "clean_feature_norm", "adversarial_cross_entropy"]
    for path, name, epochs in zip(phases, names, (2, 2, 1), strict=True):
        rows = (path / "history.csv").read_text().splitlines()
        assert name in rows[0] and len(rows) == 1 + epochs
        assert (path / "classifier.keras").exists() and (path / "checkpoints").exists()
    assert (undisturbed / "saved_model/1").exists() and not (undisturbed / "phases/2/saved_model").exists()
    one, two, three = (keras.models.load_model(path / "classifier.keras") for path in phases)
    heads = [tfrobust.classifiers.head_of(c).get_weights() for c in (one, two, three)]
    for a, b in zip(heads[0], heads[1], strict=True):
        np.testing.assert_array_equal(a, b)  # frozen in the second phase, which went on with what the first had kept
    assert np.abs(heads[1][0] - heads[2][0]).max() > 0  # and free in the third
    assert np.abs(one.get_weights()[0] - two.get_weights()[0]).max() > 1e-4


def test_fine_tuning_trains_what_an_earlier_phase_had_frozen(undisturbed):
    config = {**small(phases=[]), "fine_tune": str(undisturbed / "phases/2/classifier.keras")}
    assert len(build.build_classifier(config).trainable_variables) == 4


@pytest.mark.parametrize("after", [pytest.param(2, marks=pytest.mark.slow), 3])  # between two phases, and within one
def test_a_run_that_was_killed_in_any_phase_ends_with_the_same_weights(after, undisturbed, tmp_path):
    path = Path(shutil.copytree(undisturbed.with_name(f"killed-{after}"), tmp_path / "w"))
    assert (path / "phases/1/classifier.keras").exists() and not (path / "classifier.keras").exists()
    run(Workdir(path).read_config(), path)
    for part in ("phases/1", "phases/2", "."):
        for a, b in zip(
            weights(undisturbed / part / "classifier.keras"), weights(path / part / "classifier.keras"), strict=True
        ):
            np.testing.assert_array_equal(a, b)
        assert (undisturbed / part / "history.csv").read_text() == (path / part / "history.csv").read_text()


def test_a_phase_sees_data_and_noise_of_its_own():
    """The second phase goes on in the order of the data where the first ended, and attacks from other starts."""
    config = small()
    first, second, _ = build.phases_of(config)
    classifier = build.build_classifier(config)
    a, b = (build.build_trainer(phase, classifier, n) for n, phase in enumerate((first, second)))
    assert a.seed != b.seed
    orders = [next(iter(build.load_data(config, "train", first_epoch=epoch)))[1].numpy() for epoch in (0, 2)]
    assert (orders[0] != orders[1]).any()


def test_without_phases_there_is_one_fit_by_the_top_level():
    config = digits.get_config("madry").to_dict()
    assert build.phases_of(config) == [config]


def test_frozen_layers_are_freed_again_as_they_were(make_classifier):
    classifier = make_classifier(batch_norm=True)
    classifier.layers[1].trainable = False  # by its owner
    before = [layer.trainable for layer in classifier._flatten_layers()]
    with build.frozen(classifier, ["head", classifier.layers[1].name]):
        assert not tfrobust.classifiers.head_of(classifier).trainable_variables
        assert len(classifier.trainable_variables) == 2  # BatchNorm's
    assert [layer.trainable for layer in classifier._flatten_layers()] == before


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"phases": [{"epoch": 3}]}, "Unknown field of a phase.*Did you mean 'epochs'"),
        ({"phases": [{"weight_decay": 1e-4}]}, "Unknown field of a phase.*Received: 'weight_decay'"),
        ({"phases": [], "frozen": ["haed"]}, "Unknown layer in `frozen`.*Did you mean 'head'"),
        ({"phases": [{"objective": {"name": "standard"}}, {"objective": {"name": "trade"}}]}, "Did you mean 'trades'"),
        ({"fine_tune": "nowhere.keras"}, "nowhere.keras, where no file is"),
    ],
)
def test_what_is_wrong_in_any_phase_is_said_before_the_first(changes, text, tmp_path):
    with pytest.raises((ValueError, OSError), match=text):
        run(small(**changes), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def saved(path, input_shape, classes):
    inputs = keras.Input(input_shape)
    outputs = keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(path)
    return str(path)


def test_fine_tuning_begins_with_the_weights_of_a_file(tmp_path):
    """Any Keras classifier: this one has a softmax and no named outputs."""
    file = saved(tmp_path / "mine.keras", (8, 8, 1), 10)
    config = {**small(phases=[]), "fine_tune": file, "objective": {"name": "standard"}, "epochs": 1, "monitor": ""}
    classifier = build.build_classifier(config)
    for a, b in zip(classifier.get_weights(), weights(file), strict=True):
        np.testing.assert_array_equal(a, b)
    config["learning_rate"] = 0.0
    run(config, tmp_path / "w")
    for a, b in zip(weights(tmp_path / "w/classifier.keras"), weights(file), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("shape", "classes"), [((9, 8, 1), 10), ((8, 8, 3), 10), ((8, 8, 1), 7)])
def test_fine_tuning_refuses_a_network_of_other_data(shape, classes, tmp_path):
    file = saved(tmp_path / "mine.keras", shape, classes)
    with pytest.raises(ValueError, match=r"does not fit the data 'digits': expected images \(8, 8, 1\) and 10 classes"):
        build.build_classifier({**small(), "fine_tune": file})


def test_papers_figures_stand_beside_ours():
    results = (tfrobust.evaluation.report.Result("PGD-20", {}, 0.4125, 1.0),)
    report = tfrobust.Report(0.8, 0.4, results, (), (), 0.1, "linf", (0.0, 1.0), 10, 2, 0, 10, {})
    lines = beside_paper(report, {"clean": 80.79, "PGD-20": 39.72, "black box PGD-20": 56.6}).splitlines()
    assert [line.split() for line in lines] == [
        ["paper", "measured"],
        ["clean", "80.79", "%", "80.00", "%"],
        ["PGD-20", "39.72", "%", "41.25", "%"],
        ["black", "box", "PGD-20", "56.60", "%", "-"],
    ]
    assert beside_paper(report, {}) == ""


def test_a_row_of_a_paper_prints_its_figures(tmp_path, small_network):
    from trainers.evaluate import evaluate_workdir

    config = small(phases=[], fine_tune=small_network)
    config = {**config, "objective": {"name": "standard"}, "epochs": 1, "monitor": "", "paper": {"PGD-2": 12.5}}
    config["evaluation"] = {"attacks": {"PGD-2": {"name": "pgd", "steps": 2}}, "eps": 0.1, "norm": "linf"}
    report = run(config, tmp_path / "w")
    assert [result.name for result in report.attacks] == ["PGD-2"]
    assert "12.50 %" in beside_paper(report, Workdir(tmp_path / "w").read_config()["paper"])
    again = evaluate_workdir(Workdir(tmp_path / "w"))
    assert again.robust_accuracy == report.robust_accuracy


def test_every_field_of_a_phase_is_a_field_of_a_run():
    assert set(build.PER_PHASE) < set(_base.FIELDS)
