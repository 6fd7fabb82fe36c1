"""What makes no evaluation is refused in a sentence."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import attacks
from tfrobust.evaluation import evaluate

X, Y = np.full((4, 6, 6, 1), 0.5, "float32"), np.array([0, 1, 2, 3])


def changed(value, at=(0, 0, 0, 0)):
    x = X.copy()
    x[at] = value
    return x


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((X * 255, Y), r"Invalid pixels: expected values in \[0, 1\]"),
        ((changed(np.nan), Y), "Invalid pixels"),
        ((changed(np.inf), Y), "Invalid pixels"),
        ((changed(-0.1), Y), "Invalid pixels"),
        ((X, Y + 1), "Invalid labels: expected integers from 0 to 3"),
        ((X, Y - 1), "Invalid labels"),
        ((X, np.full((4, 4), 0.25)), "Invalid labels: expected one-hot rows"),
        ((X, np.zeros((4, 3))), "Invalid shape of y"),
        ((X.transpose(0, 3, 1, 2), Y), "channels first"),
        ((X[:, :5], Y), r"Invalid shape of x: expected \(batch, 6, 6, 1\)"),
        ((X[:0], Y[:0]), "expected at least one image. Received: none"),
        ((X, Y[:3]), "not of equal length"),
        ((X,), "Received: tuple of 1"),
        (X, "Received: ndarray"),
        (tf.data.Dataset.from_tensor_slices((X, Y)), "Received: single examples"),
        (tf.data.Dataset.from_tensor_slices(X).batch(2), "Received: a dataset of"),
        (tf.data.Dataset.from_tensor_slices((X, Y, Y, Y)).batch(2), "Received: a dataset of"),
        (tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).repeat(), "repeats for ever"),
        (tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).take(0), "expected at least one image"),
    ],
)
def test_data(make_classifier, data, words):
    with pytest.raises(ValueError, match=words) as caught:
        evaluate(make_classifier(), data, eps=0.1, verbose=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": -0.1}, "`eps`: expected a number of at least 0"),
        ({"eps": True}, "`eps`"),
        ({"eps": float("nan")}, "`eps`"),
        ({"eps": float("inf"), "norm": "l2"}, "`eps`"),
        ({"eps": 8}, "8/255, not 8"),
        ({"eps": "8/255"}, "`eps`"),
        ({"norm": "linff"}, "Unknown norm.*Did you mean 'linf'"),
        ({"bounds": (1, 0)}, "`bounds`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"seed": -1}, "`seed`"),
        ({"probes": -1}, "`probes`"),
        ({"mask": np.ones((5, 5, 1))}, r"`mask`: expected \(H, W, C\) of the images, \(6, 6, 1\)"),
        ({"mask": np.ones((4, 6, 6, 1))}, "`mask`: expected one mask for all images"),
        ({"mask": np.ones((6, 6, 1)), "attacks": [attacks.pgd(eps=0.1)]}, "expected the evaluation's `mask`"),
        ({"attacks": "quik"}, "Unknown suite or attack.*Did you mean 'quick'"),
        ({"attacks": "fgms"}, "Unknown suite or attack.*Did you mean 'fgsm'"),
        ({"attacks": "fgsm,,pgd"}, "Unknown attack.*Received: ''"),
        ({"attacks": []}, "at least one attack"),
        ({"attacks": 3}, "the name of a suite"),
        ({"attacks": ["pdg"]}, "Unknown attack.*Did you mean 'pgd'"),
        ({"attacks": [{"name": "pgd", "step": 3}]}, "Unknown argument of attack 'pgd'"),
        ({"attacks": [3]}, "Invalid attack: expected a name, .* Received: 3"),
        ({"attacks": [attacks.pgd(eps=0.1, targeted=True)]}, "expected an untargeted one"),
        ({"attacks": [attacks.cw_linf(eps=0.1, targeted=True)]}, "expected an untargeted one"),
        ({"attacks": [{"name": "pgd", "targeted": True}]}, "expected an untargeted one"),
        ({"attacks": [attacks.Cascade([attacks.cw_linf(eps=0.2)])]}, r"stay in Linf\(eps=0.1"),
        ({"attacks": [attacks.pgd(eps=0.2)]}, r"stay in Linf\(eps=0.1.*Received: one in Linf\(eps=0.2"),
        ({"attacks": [attacks.pgd(eps=0.1, bounds=(0.0, 2.0))]}, "Received: one in Linf"),
        ({"attacks": [attacks.pgd(eps=lambda epoch: 0.1)]}, "is a schedule"),
        ({"attacks": ["cw_linf"], "norm": "l2"}, "expected one in the L2 ball"),
    ],
)
def test_arguments(make_classifier, options, words):
    with pytest.raises(ValueError, match=words):
        evaluate(make_classifier(), (X, Y), **{"eps": 0.1, "verbose": False, **options})


def classify(z):
    return {"logits": tf.one_hot(tf.zeros_like(z[:, 0, 0, 0], tf.int32), 2)}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda c, x, y: x[:1], r"expected shape \(4, 6, 6, 1\). Received: \(1, 6, 6, 1\)"),
        (lambda c, x, y: None, "expected shape"),
    ],
)
def test_results_of_attacks(result, words):
    with pytest.raises(ValueError, match=words) as caught:
        evaluate(classify, (X, 0 * Y), eps=0.1, attacks=[result], verbose=False)
    assert "Invalid result of the attack" in str(caught.value)


@pytest.mark.parametrize(
    "attack",
    [
        lambda c, x, y: np.where(np.arange(4)[:, None, None, None] == 1, np.nan, x),
        attacks.pgd(eps=0.1, start=lambda ball, x, noise: np.nan * x),
    ],
)
def test_pixels_that_are_not_finite_fool_nobody_and_are_told(attack):
    report = evaluate(classify, (X, 0 * Y), eps=0.1, attacks=[attack], verbose=False, probes=0)
    assert report.robust_accuracy == report.clean_accuracy == 1
    assert any("were not finite" in alarm for alarm in report.alarms)
    assert np.isfinite(report.adversaries.z).all()


def test_an_own_attack_of_another_norm_is_judged_by_this_ball():
    loss = lambda views: tf.reduce_sum(views.x_adv, axis=(1, 2, 3))  # noqa: E731
    options = {"eps": 0.1, "verbose": False, "probes": 0}
    report = evaluate(classify, (X, 0 * Y), norm="l2", attacks=[attacks.pgd(eps=0.1, loss=loss)], **options)
    assert any("4 of pgd" in alarm for alarm in report.alarms)
    inside = attacks.pgd(eps=0.1, norm="l2", loss=loss)  # the L2 ball lies within the Linf ball
    assert not any("4 of pgd" in alarm for alarm in evaluate(classify, (X, 0 * Y), attacks=[inside], **options).alarms)


@pytest.mark.parametrize(("classes", "loss"), [(2, "dlr"), (3, "dlr_targeted")])
def test_attacks_that_are_not_defined_for_so_few_classes(make_classifier, classes, loss):
    given = [{"name": "apgd", "loss": loss}]
    with pytest.raises(ValueError, match=f"at least {classes + 1} classes.*apgd\\(loss='ce'\\).*of {classes} classes"):
        evaluate(make_classifier(classes=classes), (X, 0 * Y), eps=0.1, attacks=given, verbose=False)


@pytest.mark.parametrize(
    ("classifier", "words"),
    [
        (3, "expected a Keras model with named outputs"),
        (
            keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten()]),
            "expected a Keras model with named outputs",
        ),
        (lambda z: z, "dict with 'logits'"),
        (lambda z: {"probabilities": z}, r"Received: \['probabilities'\]"),
        (lambda z: {"logits": z}, r"logits \(1, 6, 6, 1\)"),
        (lambda z: {"logits": z[:, 0, 0]}, r"logits \(1, 1\)"),
        (
            lambda z: tf.argmax(z[:, 0, 0], -1),
            r'returns labels: lambda z: \{"logits": tf.one_hot\(predict\(z\), classes',
        ),
        (lambda z: {"logits": tf.argmax(z[:, 0, 0], -1)}, r"logits \(1,\) int64.*returns labels"),
        (lambda z: {"logits": tf.cast(z[:, 0, :, 0], tf.int32)}, r"logits \(1, 6\) int32.*tf\.cast\(predict\(z\), "),
        (lambda z: {"logits": np.zeros((len(np.asarray(z)), 4))}, "computes in NumPy.*tf.numpy_function"),
        (lambda z: {"logits": tf.numpy_function(np.zeros, [(1, 4)], tf.float64)}, "tf.ensure_shape"),
    ],
)
def test_classifiers(classifier, words):
    with pytest.raises(ValueError, match=words):
        evaluate(classifier, (X, Y), eps=0.1, verbose=False)


def test_a_callable_takes_images():
    with pytest.raises(ValueError, match=r"expected \(batch, H, W, C\)"):
        evaluate(classify, (X[..., 0], Y), eps=0.1, verbose=False)
