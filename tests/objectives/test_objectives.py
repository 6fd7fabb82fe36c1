"""Objectives by hand: fixed logits and features, the expected numbers worked out from the formulas here."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import objectives
from tfrobust.attacks import starts
from tfrobust.objectives import Objective, Term

CLEAN = np.array([[1.0, 2.0, -0.5], [0.0, 0.3, 0.2]], "float32")
ADV = np.array([[0.2, 1.0, 0.7], [-1.0, 2.0, 0.0]], "float32")
F_CLEAN = np.array([[1.0, 0.0], [0.5, 0.5]], "float32")
F_ADV = np.array([[0.4, 0.8], [0.5, 0.5]], "float32")
Y = np.array([1, 2], "int32")


def views():
    return tfrobust.Views(y=Y, clean={"logits": CLEAN, "features": F_CLEAN}, adv={"logits": ADV, "features": F_ADV})


def log_softmax(z):
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def cross_entropy(z):
    return -log_softmax(z)[[0, 1], Y]


P, Q = np.exp(log_softmax(CLEAN)), np.exp(log_softmax(ADV))
KL = (P * np.log(P / Q)).sum(-1)
DISTANCE = np.array([np.sqrt(0.6**2 + 0.8**2), 0.0])

TABLE = {
    "standard": ({}, None, {"clean_cross_entropy": (1.0, cross_entropy(CLEAN))}),
    "madry": ({}, cross_entropy(ADV), {"adversarial_cross_entropy": (1.0, cross_entropy(ADV))}),
    "joint": (
        {"clean_weight": 0.3, "adversarial_weight": 0.7},
        cross_entropy(ADV),
        {"clean_cross_entropy": (0.3, cross_entropy(CLEAN)), "adversarial_cross_entropy": (0.7, cross_entropy(ADV))},
    ),
    "trades": ({"beta": 5.0}, KL, {"clean_cross_entropy": (1.0, cross_entropy(CLEAN)), "kl_divergence": (5.0, KL)}),
    "feature_regularization": (
        {"weight": 0.01},
        cross_entropy(ADV),
        {"adversarial_cross_entropy": (1.0, cross_entropy(ADV)), "feature_distance": (0.01, DISTANCE)},
    ),
}


def test_the_table_has_every_objective():
    assert sorted(TABLE) == objectives.names()


@pytest.mark.parametrize("name", TABLE)
def test_values_by_hand(name):
    arguments, inner, outer = TABLE[name]
    objective = objectives.get(name, **arguments)
    if inner is None:
        assert objective.inner is None
    else:
        np.testing.assert_allclose(objective.inner(views()), inner, rtol=1e-5, atol=1e-7)
    assert set(objective.outer) == set(outer)
    for term, (weight, values) in outer.items():
        assert objective.outer[term].weight == weight
        np.testing.assert_allclose(objective.outer[term].loss(views()), values, rtol=1e-5, atol=1e-7)


def test_starts():
    assert objectives.get("trades").start is starts.normal  # its divergence has no gradient at x itself
    assert {objectives.get(name).start for name in ("madry", "joint", "feature_regularization")} == {starts.uniform}


def side_gradients(loss, name):
    """Gradients of the summed loss by the clean and by the adversarial output of this name."""
    clean = {"logits": tf.constant(CLEAN), "features": tf.constant(F_CLEAN)}
    adv = {"logits": tf.constant(ADV), "features": tf.constant(F_ADV)}
    with tf.GradientTape() as tape:
        tape.watch([clean, adv])
        total = tf.reduce_sum(loss(tfrobust.Views(y=Y, clean=clean, adv=adv)))
    return [g.numpy() for g in tape.gradient(total, [clean[name], adv[name]])]


def test_gradients_of_the_outer_divergence_flow_through_both_predictions():
    clean, adv = side_gradients(objectives.get("trades").outer["kl_divergence"].loss, "logits")
    np.testing.assert_allclose(adv, Q - P, atol=1e-6)  # d KL / d z' = q - p
    np.testing.assert_allclose(clean, P * (np.log(P / Q) - KL[:, None]), atol=1e-6)


def test_gradients_of_the_feature_distance_flow_through_both_sides_and_vanish_at_zero():
    clean, adv = side_gradients(objectives.get("feature_regularization").outer["feature_distance"].loss, "features")
    np.testing.assert_allclose(clean, [[0.6, -0.8], [0.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(adv, -clean, atol=1e-6)


def test_losses_are_float32_whatever_the_outputs_are():
    low = {"logits": tf.constant(ADV, tf.bfloat16), "features": tf.constant(F_ADV, tf.bfloat16)}
    record = tfrobust.Views(y=Y, clean=low, adv=low)
    for name in objectives.names():
        for term in objectives.get(name).outer.values():
            assert term.loss(record).dtype == tf.float32


def test_views_say_what_is_missing():
    with pytest.raises(ValueError, match=r"`adv\['features'\]`, which this classifier does not give.*\['logits'\]"):
        tfrobust.Views(y=Y, adv={"logits": ADV}).adv["features"]
    with pytest.raises(ValueError, match=r"reads `views.adv`, which is not there"):
        tfrobust.Views(y=Y, clean={"logits": CLEAN}).adv["logits"]


def test_views_make_a_forward_when_it_is_first_read_and_once():
    calls = []

    def forward():
        calls.append(1)
        return {"logits": CLEAN}

    record = tfrobust.Views(y=Y, clean=forward, adv={"logits": ADV})
    assert not calls
    record.clean["logits"], record.clean["logits"]
    assert len(calls) == 1
    assert record.reads == {"clean.logits"}


def test_batch_mean_defaults_to_the_mean():
    np.testing.assert_allclose(views().batch_mean(np.array([1.0, 3.0])), 2.0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: objectives.trades(beta=-1), "`beta`: expected at least 0, or a schedule. Received: -1"),
        (lambda: objectives.joint(clean_weight=float("nan")), "`clean_weight`"),
        (lambda: objectives.joint(share=0), r"`share`: expected a part of the batch in \(0, 1\]"),
        (lambda: objectives.feature_regularization(weight=-0.1), "`weight`"),
        (lambda: objectives.get("madri"), "Unknown objective: .* Did you mean 'madry'"),
        (lambda: objectives.get("trades", bta=1), "Unknown argument of objective 'trades'.*Did you mean 'beta'"),
        (lambda: objectives.get({"beta": 1}), "expected a name, a config dict with a 'name'"),
        (
            lambda: objectives.get(objectives.madry(), beta=1),
            "expected arguments only beside a name|Expected arguments",
        ),
        (lambda: Objective(None, {}), "at least one term"),
        (lambda: Objective(None, {"loss": abs}), "are the trainer's. Received: .'loss'."),
        (lambda: Objective(None, {"a": abs}).get_config(), "put together by hand"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_users_own_objective_joins_the_family():
    def l1(record):
        return keras.ops.sum(keras.ops.abs(record.adv["logits"] - record.clean["logits"]), axis=-1)

    @objectives.register
    def logit_pairing(weight=0.5):
        plain = objectives.madry()
        return Objective(plain.inner, {**plain.outer, "pairing": Term(l1, weight)})

    try:
        made = objectives.get("logit_pairing", weight=2.0)
        assert made.get_config() == {"name": "logit_pairing", "weight": 2.0}
        np.testing.assert_allclose(made.outer["pairing"].loss(views()), np.abs(CLEAN - ADV).sum(-1), rtol=1e-6)
    finally:
        from tfrobust.objectives.objective import OBJECTIVES

        del OBJECTIVES._factories["logit_pairing"]
