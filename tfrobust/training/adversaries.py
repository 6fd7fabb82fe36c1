"""Chooses and checks the attacks of training and of validation."""

from __future__ import annotations

from typing import Any

from tfrobust import losses
from tfrobust.attacks import GradientAttack, RelativeStepSize
from tfrobust.objectives import Objective
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.graph import split
from tfrobust.utils.types import Tensor
from tfrobust.views import Views

VALIDATION_STEPS = 20


def training_adversary(attack: GradientAttack | None, objective: Objective) -> GradientAttack | None:
    """Returns the attack with the loss that a training step maximizes: its own, or the objective's inner loss.

    Raises:
        ValueError: if the attack is targeted, does not ascend a loss, or takes fewer steps than the objective needs.
    """
    if attack is None or objective.inner is None:
        return None
    _check("attack", attack, objective)
    attack = attack.starting(objective.start)
    return attack.maximizing(objective.inner) if attack.loss is None else _observing(attack)


def validation_adversary(
    attack: GradientAttack | None, given: GradientAttack | None, objective: Objective
) -> GradientAttack | None:
    """Returns the attack of validation; by default PGD on cross entropy, whatever the objective.

    Its own inner attack would make a classifier without robustness look robust.

    Raises:
        ValueError: as `training_adversary`, and if the bounds are not those of the attack of training.
    """
    if given is None:
        if attack is None:
            return None
        step = attack.ball.steepest(RelativeStepSize(2.5 / VALIDATION_STEPS))
        given = GradientAttack(attack.ball, step, VALIDATION_STEPS, start="uniform")
    _check("validation_attack", given, objective)
    if attack is not None and given.ball.bounds != attack.ball.bounds:
        raise InvalidArgument(
            f"Invalid `validation_attack`: expected the attack's bounds {attack.ball.bounds}. "
            f"Received: {given.ball.bounds}"
        )
    return _observing(given)


def check_radii(attack: GradientAttack | None, validation: GradientAttack | None, last_epoch: float) -> None:
    """Refuses a negative eps of a training attack, and a validation attack whose radius is 0 when training ends."""
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


def _observing(attack: GradientAttack) -> GradientAttack:
    """Returns the attack with a loss that also observes which iterates are classified right, unless it observes."""

    def loss(views: Views) -> tuple[Tensor, Tensor]:
        value, observed = split(attack.effective_loss(views))
        return value, losses.correct(views.adv["logits"], views.y) if observed is None else observed

    return attack.maximizing(loss, targets=attack.targets)


def _check(name: str, attack: Any, objective: Objective) -> None:
    if not isinstance(attack, GradientAttack):
        raise InvalidArgument(
            f"Invalid value for `{name}`: expected an attack that ascends a loss, such as tfrobust.attacks.pgd(...). "
            f"Received: {attack!r}, which is for `tfrobust.evaluate`"
        )
    if attack.targeted:
        raise InvalidArgument(f"Invalid value for `{name}`: expected an untargeted attack. Received: targeted=True")
    if attack.steps < objective.least_steps:
        raise InvalidArgument(
            f"The objective {objective.name!r} counts the iterates that are classified right: expected "
            f"`{name}` of at least {objective.least_steps} steps. Received: {attack.steps}"
        )
