"""Which adversary a trainer trains against, and which one its validation believes."""

from __future__ import annotations

from typing import Any

from tfrobust import losses
from tfrobust.attacks import Adversary, Attack, OfEps
from tfrobust.objectives import Objective
from tfrobust.objectives.terms import adversarial_cross_entropy
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.graph import split
from tfrobust.views import Views

Tensor = Any

VALIDATION_STEPS = 20


def _counting(adversary: Adversary) -> Adversary:
    """Returns the adversary, whose loss now also observes which iterates are classified right, unless it observes."""

    def loss(views: Views) -> tuple[Tensor, Tensor]:
        value, observed = split(adversary.loss(views))
        return value, losses.correct(views.adv["logits"], views.y) if observed is None else observed

    return adversary.attack.maximizing(loss)


def _check_kind(name: str, attack: Any) -> None:
    if not isinstance(attack, (Attack, Adversary)):
        raise InvalidArgument(
            f"Invalid value for `{name}`: expected an attack that ascends a loss, such as tfrobust.attacks.pgd(...). "
            f"Received: {attack!r}, which is for `tfrobust.evaluate`"
        )


def _check_steps(name: str, steps: int, objective: Objective) -> None:
    if steps < objective.least_steps:
        raise InvalidArgument(
            f"The objective {objective.name!r} counts the iterates that are classified right: expected "
            f"`{name}` of at least {objective.least_steps} steps. Received: {steps}"
        )


def training_adversary(attack: Attack | Adversary | None, objective: Objective) -> Adversary | None:
    if attack is None or objective.inner is None:
        return None
    _check_kind("attack", attack)
    adversary = attack if isinstance(attack, Adversary) else attack.maximizing(objective.inner)
    search = adversary.attack
    if search.targeted:
        raise InvalidArgument("Invalid attack for training: expected an untargeted one. Received: targeted=True")
    _check_steps("attack", search.steps, objective)
    adversary = search.starting(objective.start).maximizing(adversary.loss)
    return _counting(adversary) if isinstance(attack, Adversary) else adversary


def validation_adversary(
    attack: Attack | Adversary | None, given: Attack | Adversary | None, objective: Objective
) -> Adversary | None:
    """By its own inner attack a fake looks robust: validation asks PGD on cross entropy, whatever the objective."""
    if given is None and attack is None:
        return None
    if given is None:
        assert attack is not None
        step = attack.ball.steepest(OfEps(2.5 / VALIDATION_STEPS))
        given = Attack(attack.ball, step, VALIDATION_STEPS, start="uniform")
    _check_kind("validation_attack", given)
    adversary = _counting(given if isinstance(given, Adversary) else given.maximizing(adversarial_cross_entropy))
    _check_steps("validation_attack", adversary.attack.steps, objective)
    if adversary.attack.targeted:
        raise InvalidArgument("Invalid `validation_attack`: expected an untargeted attack. Received: targeted=True")
    if attack is not None and adversary.ball.bounds != attack.ball.bounds:
        raise InvalidArgument(
            f"Invalid `validation_attack`: expected the attack's bounds {attack.ball.bounds}. "
            f"Received: {adversary.ball.bounds}"
        )
    return adversary


def check_radii(attack: Attack | Adversary | None, validation: Adversary | None, last_epoch: float) -> None:
    """Refuses a schedule of eps that is negative, and a validation that would attack nothing.

    Args:
        attack: the training attack.
        validation: the validation adversary, if there is validation data.
        last_epoch: where the training ends.
    """
    if attack is not None:
        for epoch in (0, last_epoch):
            if (eps := float(attack.at(epoch).ball.radius)) < 0:
                raise InvalidArgument(
                    f"Invalid schedule of eps: expected at least 0. Received: {eps:g} at epoch {epoch}"
                )
    if validation is not None and float(validation.at(last_epoch).ball.radius) <= 0:
        raise InvalidArgument(
            f"The schedule of eps ends at 0 in epoch {last_epoch:g}, so validation would attack nothing: expected "
            "`validation_attack=`, such as tfrobust.attacks.pgd(eps=8/255, steps=20). Received: none"
        )
