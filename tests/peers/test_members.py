"""Attacks of Foolbox and ART as members of an evaluation, those that ask for labels alone too."""

import numpy as np
import pytest
from keras import ops

import tfrobust
from tfrobust import attacks

foolbox = pytest.importorskip("foolbox", reason="needs pip install tfrobust[peers]")
art = pytest.importorskip("art.attacks.evasion")

BOUNDARY = {"eps": 2.5, "norm": "l2", "kind": "black box"}


def test_they_join_a_suite(networks, images):
    x, y = (part[:20] for part in images)
    line_up = {
        "pgd": attacks.pgd(0.15, steps=20),
        "foolbox": attacks.from_foolbox(foolbox.attacks.LinfPGD(steps=20, abs_stepsize=0.02), 0.15),
        "art": attacks.from_art(art.ProjectedGradientDescent, 0.15, max_iter=20, eps_step=0.02),
        "labels": attacks.from_art(art.HopSkipJump, 0.15, max_iter=2, max_eval=100, init_eval=10, kind="black box"),
    }
    report = tfrobust.evaluate(networks["standard"], (x, y), eps=0.15, attacks=line_up, probes=0, verbose=False)
    assert [result.name for result in report.attacks] == list(line_up)
    pgd, of_foolbox, of_art, labels = (result.accuracy for result in report.attacks)
    assert abs(of_foolbox - pgd) <= 0.1 and abs(of_art - pgd) <= 0.1
    assert report.robust_accuracy <= min(pgd, of_foolbox, of_art, labels)
    assert report.attacks[1].settings["steps"] == 20 and report.attacks[2].settings["max_iter"] == 20
    assert [result.kind for result in report.attacks] == ["white box"] * 3 + ["black box"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: attacks.from_foolbox(foolbox.attacks.BoundaryAttack(steps=500), **BOUNDARY),
        lambda: attacks.from_foolbox(
            foolbox.attacks.HopSkipJumpAttack(steps=3, max_gradient_eval_steps=200), **BOUNDARY
        ),
        lambda: attacks.from_art(art.BoundaryAttack, targeted=False, max_iter=30, **BOUNDARY),
        lambda: attacks.from_art(lambda net: art.HopSkipJump(net, max_iter=3, max_eval=200, verbose=False), **BOUNDARY),
    ],
    ids=["Foolbox-boundary", "Foolbox-HopSkipJump", "ART-boundary", "ART-HopSkipJump"],
)
def test_attacks_that_ask_for_labels_alone(make, networks, images):
    x, y = images
    right = np.flatnonzero(np.argmax(networks["standard"](x)["logits"], -1) == y)[:8]
    x, y = x[right], y[right]
    z = np.asarray(make()(networks["standard"], x, y))
    moved = np.linalg.norm((z - x).reshape(8, -1), axis=1)
    wrong = np.argmax(networks["standard"](z)["logits"], -1) != y
    assert moved.max() <= 2.5 + 1e-5 and wrong.any()
    assert (wrong == (moved > 0)).all()  # found within the ball, or the clean image


def test_refusals():
    with pytest.raises(ValueError, match=r"expected an object of foolbox\.attacks.*Received: 'pgd'"):
        attacks.from_foolbox("pgd", 0.1)
    with pytest.raises(ValueError, match=r"expected a class of art\.attacks\.evasion.*Received: 3"):
        attacks.from_art(3, 0.1)
    with pytest.raises(ValueError, match=r"expected a class of art\.attacks\.evasion"):
        attacks.from_art(dict, 0.1)
    with pytest.raises(ValueError, match=r"expected none beside a function\. Received: \['max_iter'\]"):
        attacks.from_art(lambda estimator: None, 0.1, max_iter=3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: attacks.from_art(art.ProjectedGradientDescent, 0.1, targeted=True), "expected an untargeted one"),
        (lambda: attacks.from_art(lambda estimator: 3, 0.1), "expected it to make an evasion attack. Received: 3"),
    ],
)
def test_refusals_of_what_is_made(make, text, networks, images):
    with pytest.raises(ValueError, match=text):
        make()(networks["standard"], images[0][:2], images[1][:2])


def linear(bounds):
    """A classifier that no small change fools, so that attacks spend their whole radius."""
    weights = np.random.default_rng(0).normal(0, 1, (64, 2)).astype("float32")

    def classify(z):
        flat = ops.reshape((z - bounds[0]) / (bounds[1] - bounds[0]) - 0.5, (-1, 64))
        return {"logits": ops.matmul(flat, weights) + np.array([12.0, 0.0], "float32")}

    return classify


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)])
@pytest.mark.parametrize("mask", [None, np.arange(64).reshape(8, 8, 1) < 32])
@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda eps, **ours: attacks.from_foolbox(foolbox.attacks.L1FastGradientAttack(), eps, **ours), 0.019),
        (lambda eps, **ours: attacks.from_foolbox(foolbox.attacks.L1PGD(steps=5), eps, **ours), 0.019),
        # It moves one value alone, as far as its bound.
        (lambda eps, **ours: attacks.from_art(art.FastGradientMethod, eps, **ours), 0.5 / 64),
    ],
    ids=["Foolbox FGM", "Foolbox PGD", "ART FGM"],
)
def test_in_l1_our_mean_is_their_sum(make, least, mask, bounds):
    width = bounds[1] - bounds[0]
    x = np.full((3, 8, 8, 1), (bounds[0] + bounds[1]) / 2, "float32")
    z = np.asarray(make(0.02 * width, norm="l1", bounds=bounds, mask=mask)(linear(bounds), x, np.zeros(3, "int32")))
    means = np.abs(z - x).mean((1, 2, 3)) / width
    assert (means <= 0.02 * 1.001).all()
    if mask is None:
        assert (means >= 0.999 * least).all()
    else:
        assert (z == x)[:, ~mask].all()  # what it spends elsewhere is taken back


def test_an_attack_that_measures_otherwise_keeps_its_radius():
    x = np.full((3, 8, 8, 1), 0.5, "float32")
    y = np.zeros(3, "int32")
    moves = {
        "Foolbox, Linf": attacks.from_foolbox(foolbox.attacks.LinfFastGradientAttack(), 0.02, norm="l1"),
        "ART, made by a function": attacks.from_art(
            lambda net: art.FastGradientMethod(net, norm=np.inf, eps=0.02), 0.02, norm="l1"
        ),
    }
    for attack in moves.values():
        np.testing.assert_allclose(np.abs(np.asarray(attack(linear((0.0, 1.0)), x, y)) - x), 0.02, atol=1e-5)
