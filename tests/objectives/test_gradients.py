"""What flows where: gradients of every loss by logits, features, cosines and maps, and that they are finite."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

import tfrobust
from tfrobust import losses, objectives

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients by TensorFlow's tape")

spec = importlib.util.spec_from_file_location("by_hand", Path(__file__).with_name("test_objectives.py"))
by_hand = importlib.util.module_from_spec(spec)
spec.loader.exec_module(by_hand)
SIDES, Y, P, Q, KL = by_hand.SIDES, by_hand.Y, by_hand.P, by_hand.Q, by_hand.KL


def tensors(dtype="float64"):
    return {side: {k: tf.constant(v, dtype) for k, v in outputs.items()} for side, outputs in SIDES.items()}


def gradients(loss, sides=None, y=Y):
    """Gradients of the summed loss by every output of both sides, zeros where it does not depend on one."""
    return value_and_gradients(loss, sides or tensors("float32"), y)[1]


def value_and_gradients(loss, sides, y=Y):
    with tf.GradientTape() as tape:
        tape.watch(sides)
        value = loss(
            tfrobust.Views(y=y, **sides, observed=tfrobust.Observed(tf.constant(by_hand.KAPPA), by_hand.STEPS))
        )
        value = value[0] if isinstance(value, tuple) else value
        total = tf.reduce_sum(value)
    found = tape.gradient(total, sides, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value.numpy(), {side: {k: g.numpy() for k, g in outputs.items()} for side, outputs in found.items()}


def differences(loss, side, name):
    """Central differences of the summed loss by the first row of an output."""
    h, found = 1e-3, np.zeros_like(SIDES[side][name][0])
    for place in np.ndindex(found.shape):
        moved = []
        for sign in (1, -1):
            sides = {s: {k: v.copy() for k, v in outputs.items()} for s, outputs in SIDES.items()}
            sides[side][name][0][place] += sign * h
            views = tfrobust.Views(y=Y, **sides, observed=tfrobust.Observed(by_hand.KAPPA, by_hand.STEPS))
            moved.append(float(tf.reduce_sum(loss(views))))
        found[place] = (moved[0] - moved[1]) / (2 * h)
    return found


TERMS = [
    (name, term)
    for name, arguments in {name: {} for name in objectives.names()}.items()
    for term in objectives.get(name, **arguments).outer
]
# What is treated as a constant there: those gradients are not the loss' differences.
DETACHED = {
    ("aelf", "one_way_feature_distance"): ("clean", "features"),
    ("mail_at", "weighted_cross_entropy"): ("adv", "logits"),
    ("mail_trades", "weighted_kl_divergence"): ("adv", "logits"),
}


@pytest.mark.parametrize(("name", "term"), TERMS)
def test_gradients_are_those_of_the_loss(name, term):
    """Attached unless listed: at row 0, since row 1 has distances of zero, where norms have corners."""
    loss = objectives.get(name).outer[term].loss
    found = gradients(loss)
    for side, outputs in SIDES.items():
        for output in outputs:
            if DETACHED.get((name, term)) != (side, output):
                expected = differences(loss, side, output)
                np.testing.assert_allclose(found[side][output][0], expected, atol=3e-3, err_msg=f"{side} {output}")


def test_kl_divergence_by_hand():
    found = gradients(objectives.trades().outer["kl_divergence"].loss)
    np.testing.assert_allclose(found["adv"]["logits"], Q - P, atol=1e-6)  # d KL / d z' = q - p
    np.testing.assert_allclose(found["clean"]["logits"], P * (np.log(P / Q) - KL[:, None]), atol=1e-6)


def test_feature_distance_flows_through_both_sides_and_vanishes_at_zero():
    found = gradients(objectives.feature_regularization().outer["feature_distance"].loss)
    np.testing.assert_allclose(found["clean"]["features"], [[0.6, -0.8], [0.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(found["adv"]["features"], -found["clean"]["features"], atol=1e-6)


def test_aelf_leaves_the_clean_features_and_the_head_alone():
    found = gradients(objectives.aelf().outer["one_way_feature_distance"].loss)
    assert not np.any(found["clean"]["features"]) and not np.any(found["adv"]["logits"])
    np.testing.assert_allclose(found["adv"]["features"], [[-0.6, 0.8], [0.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize(("name", "plain", "at"), [("mail_at", "madry", 10.0), ("mail_trades", "trades", 2.0)])
def test_mail_weighs_the_gradient_of_the_plain_loss(name, plain, at):
    slope, bias = (10.0, -0.5) if name == "mail_at" else (2.0, 0.0)
    weights = by_hand.mail(slope, bias)[0][:, None]
    term = {"mail_at": "weighted_cross_entropy", "mail_trades": "weighted_kl_divergence"}[name]
    plain_term = {"mail_at": "adversarial_cross_entropy", "mail_trades": "kl_divergence"}[name]
    found = gradients(objectives.get(name).outer[term].loss)["adv"]["logits"]
    expected = gradients(objectives.get(plain).outer[plain_term].loss)["adv"]["logits"]
    np.testing.assert_allclose(found, weights * expected, rtol=1e-4, atol=1e-6)


def test_mart_flows_through_its_weight():
    """Detached, the gradient by clean logits would lack -KL' * dp_y."""
    found = gradients(objectives.mart().outer["weighted_kl_divergence"].loss)["clean"]["logits"]
    kl = P * (np.log(P / Q) - KL[:, None])
    true = by_hand.true(P)[:, None]
    one = np.eye(3)[Y]
    by_weight = -KL[:, None] * true * (one - P)
    np.testing.assert_allclose(found, (1 - true) * kl + by_weight, atol=1e-5)
    assert np.abs(by_weight).max() > 0.01


def test_spat_factors_can_be_detached():
    attached, detached = (
        gradients(objectives.spat(detached=d).outer["paced_cross_entropy"].loss)["clean"] for d in (False, True)
    )
    assert np.abs(attached["cosine"]).max() > 0.01
    assert not np.any(detached["cosine"])
    np.testing.assert_allclose(attached["logits"], detached["logits"], atol=1e-6)


def test_lemma_1_the_input_gradient_is_a_mixture_of_class_vectors():
    """d CE / d f = sum_j p_j w_j - w_y, exactly: the attack is drawn to the classes that are likely already."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 5)).astype("float32")
    jacobian = rng.normal(size=(5, 7)).astype("float32")  # of a linear extractor: f = J x
    w, y = rng.normal(size=(5, 4)).astype("float32"), np.array([0, 1, 2, 3, 0, 1])
    x = tf.constant(features @ np.linalg.pinv(jacobian).T)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(losses.cross_entropy(x @ jacobian.T @ w, y))
    p = by_hand.softmax(features @ w)
    expected = (p @ w.T - w.T[y]) @ jacobian
    np.testing.assert_allclose(tape.gradient(value, x), expected, rtol=1e-4, atol=1e-4)


SHAPES = {"logits": (2, 3), "features": (2, 2), "cosine": (2, 3), "cam": (2, 1, 2, 3)}
SURE = np.array([[-300.0, 300.0, 0.0], [300.0, -300.0, 0.0]])  # p exactly 0 and 1; right in row 0, wrong in row 1
DEGENERATE = {
    "equal sides": SIDES | {"adv": SIDES["clean"]},
    "zeros": {side: {k: np.zeros(shape) for k, shape in SHAPES.items()} for side in SIDES},
    "certainty": {side: SIDES[side] | {"logits": SURE, "cosine": np.sign(SURE)} for side in SIDES},
    "opposite certainty": {
        "clean": SIDES["clean"] | {"logits": SURE},
        "adv": SIDES["adv"] | {"logits": -SURE, "cosine": -np.sign(SURE)},
    },
    "tiny": {side: {k: 1e-25 * v for k, v in outputs.items()} for side, outputs in SIDES.items()},
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("name", objectives.names())
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_gradients_are_finite_where_they_easily_are_not(name, case, dtype):
    objective = objectives.get(name)
    for loss in [term.loss for term in objective.outer.values()] + ([objective.inner] if objective.inner else []):
        sides = {s: {k: tf.constant(v, dtype) for k, v in outputs.items()} for s, outputs in DEGENERATE[case].items()}
        value, found = value_and_gradients(loss, sides)
        assert np.isfinite(value.astype("float32")).all()
        for outputs in found.values():
            for output, gradient in outputs.items():
                assert np.isfinite(gradient.astype("float32")).all(), output
                assert np.abs(gradient.astype("float32")).max() < 1e7, output


@pytest.mark.parametrize("name", objectives.names())
def test_losses_do_not_mix_rows_unless_they_say_so(name):
    """A row's loss does not depend on another row, but for the batch-coupled methods and means over the batch."""
    coupled = {"feature_scatter": "inner", "adv_interpolation": "both"}
    objective = objectives.get(name)
    plain = {f: t.loss for f, t in objective.outer.items() if not f.startswith("weighted_") or name == "mart"}
    if coupled.get(name) == "both":
        plain = {}
    if objective.inner and name not in coupled:
        plain["inner"] = objective.inner
    for loss in plain.values():
        found = []
        for row in (0, 1):
            sides = tensors("float32")
            with tf.GradientTape() as tape:
                tape.watch(sides)
                value = loss(tfrobust.Views(y=Y, **sides))
                one = (value[0] if isinstance(value, tuple) else value)[row]
            grads = tape.gradient(one, sides, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            found.append(max(np.abs(g[1 - row]).max() for side in grads.values() for g in side.values()))
        assert found == [0.0, 0.0]
