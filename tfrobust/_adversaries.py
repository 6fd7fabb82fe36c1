"""Which adversary a trainer trains against, and which one its validation believes."""

from __future__ import annotations

from typing import Any

from tfrobust import attacks, losses
from tfrobust.attacks import Adversary, Attack, OfEps
from tfrobust.objectives import Objective
from tfrobust.schedules import END
from tfrobust.views import Views

Tensor = Any

VALIDATION_STEPS = 20


def _cross_entropy_and_correct(views: Views) -> tuple[Tensor, Tensor]:
    logits = views.adv["logits"]
    return losses.cross_entropy(logits, views.y), losses.correct(logits, views.y)


def training_adversary(attack: Attack | Adversary | None, objective: Objective) -> Adversary | None:
    if attack is None or objective.inner is None:
        return None
    search, loss = (attack.attack, attack.loss) if isinstance(attack, Adversary) else (attack, objective.inner)
    if search.targeted:
        raise ValueError("Invalid attack for training: expected an untargeted one. Received: targeted=True")
    return search.starting(objective.start).maximizing(loss)


def validation_adversary(attack: Attack | Adversary | None, given: Any) -> Adversary | None:
    """By its own inner attack a fake looks robust: validation asks PGD on cross entropy, whatever the objective."""
    if given is not None:
        given = attacks.get(given)
        return given if isinstance(given, Adversary) else given.maximizing(_cross_entropy_and_correct)
    if attack is None:
        return None
    ball = attack.ball.at(END)
    search = Attack(ball, ball.steepest(OfEps(2.5 / VALIDATION_STEPS)), VALIDATION_STEPS, start="uniform")
    return search.maximizing(_cross_entropy_and_correct)
