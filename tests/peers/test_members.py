"""Attacks of Foolbox and ART as members of an evaluation, those that ask for labels alone too."""

import numpy as np
import pytest

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
