"""Saved adversaries are checked again: ball, mask, range and prediction, in float and in 8 bits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import attacks
from tfrobust.attacks import Attack
from tfrobust.attacks.gradients import Exact
from tfrobust.evaluation import Adversaries, Report, evaluate

EPS = 0.1


def evaluated(classifier, data, **options):
    return evaluate(classifier, data, **{"eps": EPS, "attacks": ["pgd"], "verbose": False, "probes": 0, **options})


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_same_classifier_finds_the_same_figures(make_classifier, batch, tmp_path, norm):
    classifier, eps = make_classifier(), {"linf": 0.03, "l2": 0.12, "l1": 0.015}[norm]
    y = np.argmax(classifier(batch[0])["logits"], axis=-1)
    report = evaluated(classifier, (batch[0], y), eps=eps, norm=norm, batch_size=7)
    assert 0 < report.robust_accuracy < report.clean_accuracy == 1
    report.save(tmp_path / "evaluation.json")
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    checked = Report.load(tmp_path / "evaluation.json").verify(loaded, batch_size=6)
    assert checked.ok and checked.problems == () and (checked.outside, checked.out_of_range) == (0, 0)
    assert (checked.images, checked.clean_accuracy) == (20, report.clean_accuracy)
    assert checked.robust_accuracy == report.robust_accuracy
    assert checked.robust_accuracy_8bit == report.robust_accuracy_8bit
    assert f"{100 * report.robust_accuracy:.2f} %" in str(checked) and "20 saved adversaries: all in" in str(checked)


def test_another_classifier_says_how_well_they_transfer(make_classifier, batch):
    classifier, other = make_classifier(), make_classifier()
    report = evaluated(classifier, batch)
    checked = report.verify(other)
    x, y = batch

    def right(z):
        return np.argmax(other(z)["logits"], axis=-1) == y

    assert checked.ok
    assert checked.clean_accuracy == right(x).mean()
    assert checked.robust_accuracy == (right(x) & right(report.adversaries.z)).mean()
    # A callable will do as well.
    assert report.verify(lambda z: other(z)) == checked


def test_adversaries_have_to_survive_8_bits():
    """Class 1 is a value between two levels of 8 bits: in float the image falls, in a picture it does not."""
    between = 100.5 / 255

    def classify(z):
        near = tf.abs(z[:, 0, 0, 0] - between) * 255 < 0.25
        return {"logits": 9 * tf.one_hot(tf.cast(near, tf.int32), 2)}

    x = np.full((2, 1, 1, 1), 100 / 255, "float32")
    x[1] = 200 / 255
    report = evaluated(classify, (x, [0, 0]), attacks=[lambda c, x, y: x + 0.5 / 255])
    assert (report.robust_accuracy, report.robust_accuracy_8bit) == (0.5, 1.0)
    checked = report.verify(classify)
    assert (checked.robust_accuracy, checked.robust_accuracy_8bit) == (0.5, 1.0)


def test_an_adversary_at_the_border_is_carried_on_until_it_survives_8_bits():
    """A search that stops as soon as it fools leaves images where rounding throws them back."""

    class Border(Attack):
        def search(self, classify, x, y, seed=0, run=0):
            return x + (127.2 / 255 - x)  # past the border by a tenth of a level, which rounding takes back

    def classify(z):
        past = z[:, 0, 0, 0] - 127.1 / 255
        return {"logits": 9 * tf.stack([-past, past], axis=-1)}

    x, y = np.full((2, 1, 1, 1), 0.45, "float32"), [0, 1]
    border = Border(attacks.Linf(EPS), gradients=Exact())
    report = evaluated(classify, (x, y), attacks=[border])
    assert report.robust_accuracy == report.robust_accuracy_8bit == 0
    np.testing.assert_allclose(report.adversaries.z.ravel(), [0.55, 0.45], atol=1e-6)  # wrong clean ones stay
    assert report.adversaries.predicted.tolist() == [1, 0] and report.adversaries.fooled_by.tolist() == [0, -2]
    # Where no gradient is asked for, none is taken.
    blind = evaluated(classify, (x, y), attacks=[Border(attacks.Linf(EPS))])
    assert (blind.robust_accuracy, blind.robust_accuracy_8bit) == (0, 0.5)


def test_8_bits_follow_the_bounds(make_classifier, batch):
    x, y = batch
    scaled = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Rescaling(0.5, 0.5)])
    classifier = make_classifier()
    wide = lambda z: classifier(scaled(z))  # noqa: E731
    narrow_report = evaluated(classifier, (x, y), attacks=["fgsm"])
    wide_report = evaluated(wide, (2 * x - 1, y), eps=2 * EPS, bounds=(-1.0, 1.0), attacks=["fgsm"])
    assert narrow_report.robust_accuracy_8bit == wide_report.robust_accuracy_8bit
    assert wide_report.verify(wide).robust_accuracy_8bit == wide_report.robust_accuracy_8bit


def tampered(report, **changes):
    found = report.adversaries
    arrays = {
        name: np.array(getattr(found, name)) for name in ("x", "z", "y", "clean_predicted", "predicted", "fooled_by")
    }
    for name, change in changes.items():
        change(arrays[name])
    report.adversaries.__init__(**arrays, mask=found.mask)
    return report


def test_what_lies_outside_fools_nobody_and_is_said(make_classifier, batch):
    classifier = make_classifier()
    report = evaluated(classifier, batch)
    fooled = np.flatnonzero(report.adversaries.fooled_by >= 0)[:2]

    def too_far(z):
        z[fooled] += 0.01

    checked = tampered(report, z=too_far).verify(classifier)
    assert not checked.ok and (checked.outside, checked.out_of_range) == (2, 0)
    assert "2 adversaries lie outside Linf(eps=0.1" in checked.problems[0]
    assert str(checked).startswith("PROBLEM: 2 adversaries lie outside")
    assert checked.robust_accuracy == report.robust_accuracy + 2 / 20


@pytest.mark.parametrize("value", [np.nan, 1.2, -0.2])
def test_pixels_out_of_range(make_classifier, batch, value):
    classifier = make_classifier()
    report = evaluated(classifier, batch, eps=0.9)

    def broken(z):
        z[3, 0, 0, 0] = value

    checked = tampered(report, z=broken).verify(classifier)
    assert checked.out_of_range == 1 and any("1 images have pixels outside [0.0, 1.0]" in p for p in checked.problems)


def test_a_mask_is_checked_again(make_classifier, batch, tmp_path):
    classifier, mask = make_classifier(), np.ones((6, 6, 1))
    mask[0] = 0
    report = evaluated(classifier, batch, mask=mask)
    report.save(tmp_path / "x.json")
    assert Report.load(tmp_path / "x.json").verify(classifier).ok

    def touched(z):
        z[5, 0, 0, 0] += 0.01

    assert tampered(report, z=touched).verify(classifier).outside == 1


def test_adversaries_of_another_report(make_classifier, batch, tmp_path):
    classifier = make_classifier()
    evaluated(classifier, batch).save(tmp_path / "one.json")
    evaluated(classifier, batch, eps=0.01).save(tmp_path / "two.json")
    (tmp_path / "two.npz").replace(tmp_path / "one.npz")
    checked = Report.load(tmp_path / "one.json").verify(classifier)
    assert not checked.ok and "are not this report's" in checked.problems[0]


def test_a_classifier_of_nan(make_classifier, batch):
    checked = evaluated(make_classifier(), batch).verify(lambda z: {"logits": tf.fill((tf.shape(z)[0], 4), np.nan)})
    assert checked.clean_accuracy == 0 and "Logits are NaN for 20 images" in checked.problems[0]


def test_missing_and_broken_files(make_classifier, batch, tmp_path):
    classifier = make_classifier()
    report = evaluated(classifier, batch)
    report.save(tmp_path / "x.json")
    (tmp_path / "x.npz").unlink()
    loaded = Report.load(tmp_path / "x.json")  # the figures can be read without
    assert loaded == report
    with pytest.raises(FileNotFoundError, match=r"expected the file .*x.npz that Report.save wrote"):
        loaded.verify(classifier)
    for text in (b"", b"no arrays"):
        (tmp_path / "x.npz").write_bytes(text)
        with pytest.raises(ValueError, match="Invalid adversaries"):
            Report.load(tmp_path / "x.json").verify(classifier)
    np.savez(tmp_path / "x.npz", x=batch[0])
    with pytest.raises(ValueError, match="Invalid adversaries"):
        Report.load(tmp_path / "x.json").verify(classifier)
    with pytest.raises(AttributeError, match="no attribute 'w'"):
        _ = report.adversaries.w


def test_classifiers_that_do_not_fit(make_classifier, batch):
    report = evaluated(make_classifier(), batch)
    with pytest.raises(ValueError, match=r"expected one of images \(6, 6, 1\) and at least 4 classes.*2 classes"):
        report.verify(make_classifier(classes=2))
    with pytest.raises(ValueError, match="expected a Keras model with named outputs"):
        report.verify(3)
    with pytest.raises(ValueError, match="This report has no adversaries"):
        Report(0.9, 0.5, (), (), (), 0.1, "linf", (0.0, 1.0), 10, 2, 0, 10, {}).verify(make_classifier())


def test_adversaries_are_read_when_they_are_needed(tmp_path):
    x = np.zeros((1, 2, 2, 1), "float32")
    Adversaries(x, x, np.array([1]), np.array([1]), np.array([-1]), np.array([-1])).save(tmp_path / "a.npz")
    loaded = Adversaries.load(tmp_path / "a.npz")
    assert "x" not in vars(loaded)
    assert loaded.robust.tolist() == [True] and "x" in vars(loaded)
    assert loaded.confusion(2).sum() == 0  # NaN: no class


def test_fooled_by_counts_the_flat_results(make_classifier, batch):
    both = attacks.Cascade(
        [attacks.fgsm(eps=EPS).maximizing(lambda v: v.adv["logits"][:, 0]), attacks.cw_linf(eps=EPS)]
    )
    report = evaluated(make_classifier(), batch, attacks=["fgsm", both])
    assert [result.name for result in report.flat] == ["fgsm", *both.names]
    assert set(report.adversaries.fooled_by) <= {-2, -1, 0, 1, 2}
    for place, result in enumerate(report.flat):
        assert (report.adversaries.fooled_by == place).sum() == result.fooled


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda found: {"fooled_by": np.where(found.fooled_by >= 0, -1, found.fooled_by)}, "contradicts itself"),
        (lambda found: {"y": found.y - 7}, "contradicts itself"),
        (lambda found: {"z": found.x}, "not predicted as the file says"),
    ],
)
def test_a_file_that_was_edited_is_found_out(make_classifier, batch, edit, words):
    classifier = make_classifier()
    y = np.argmax(classifier(batch[0])["logits"], axis=-1).astype("int32")
    report = evaluated(classifier, (batch[0], y), eps=0.03)
    assert report.verify(classifier).ok and report.robust_accuracy < 1
    for name, value in edit(report.adversaries).items():
        setattr(report.adversaries, name, value)
    assert words in " ".join(report.verify(classifier).problems)
