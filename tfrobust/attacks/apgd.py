"""Auto-PGD."""

from typing import Any, NamedTuple

from keras import ops

from tfrobust import losses
from tfrobust.attacks import threat_model
from tfrobust.attacks.auto_step import AutoStep
from tfrobust.attacks.base import ranked_target
from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.registry import EPS, Loss, Schedule, register
from tfrobust.attacks.rows import column
from tfrobust.attacks.threat_model import L2, Ball
from tfrobust.attacks.view_losses import adversarial_cross_entropy, margin
from tfrobust.utils.random import Noise
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_integer
from tfrobust.views import Views


class Maximized(NamedTuple):
    """Holds a loss, the fewest classes that it is defined for, and whether it reaches for wrong classes in turn."""

    loss: Loss
    least_classes: int = 2
    targets: bool = False


def dlr(views: Views) -> Tensor:
    """Computes DLR(x', y), `(B,)`."""
    return losses.dlr(views.adv["logits"], views.y)


def dlr_targeted(views: Views) -> Tensor:
    """Computes DLR(x', y, t), `(B,)`, where t is the class that the run reaches for."""
    return losses.dlr_targeted(views.adv["logits"], views.y, views.target)


def dlr_to_the_label(views: Views) -> Tensor:
    """Computes -DLR(x', j, y), `(B,)`, where j is the likeliest class beside y: a targeted search descends it.

    DLR(x', y) itself is constant where y is the third likeliest class.
    """
    logits = views.adv["logits"]
    return -losses.dlr_targeted(logits, ranked_target(logits, views.y, 0), views.y)


LOSSES = {
    "ce": Maximized(adversarial_cross_entropy),
    "dlr": Maximized(dlr, least_classes=3),
    "dlr_targeted": Maximized(dlr_targeted, least_classes=4, targets=True),
    "margin": Maximized(margin),
}
TARGETED = {"ce": LOSSES["ce"], "dlr": Maximized(dlr_to_the_label, least_classes=4), "margin": LOSSES["margin"]}


@register
def apgd(
    eps: Schedule = EPS,
    steps: int = 100,
    *,
    loss: str = "ce",
    norm: str = "linf",
    targets: int = 9,
    restarts: int = 1,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> GradientAttack:
    """Runs Auto-PGD: PGD with momentum that starts on the surface of the ball and adapts its step size (`AutoStep`).

    It returns the first iterate that fools the classifier, else the one with the greatest loss. The step in the L2 ball
    is size * g / ||g||_2 however short g is. Croce and Hein 2020 (Reliable Evaluation of Adversarial Robustness with an
    Ensemble of Diverse Parameter-free Attacks), algorithm 1.

    Args:
        {{eps_schedule}}
        steps: Number of iterations.
        loss: "ce", "dlr", "margin", or "dlr_targeted", which reaches for one wrong class after the other in runs of
            their own (any misclassification counts).
        {{norm}}
        targets: How many wrong classes "dlr_targeted" reaches for, the likeliest of the clean image first.
        restarts: Number of independent searches (for each class that is reached for).
        targeted: The labels are the classes to reach; with "ce", "dlr" (in its targeted form) or "margin".
        {{ball}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.apgd(eps=0.15, loss="dlr_targeted").runs(classes=10)
    9
    """
    known = TARGETED if targeted else LOSSES
    if loss not in known:
        raise unknown(f"loss of apgd(targeted={targeted})", loss, known)
    maximized = known[loss]
    ball = threat_model.ball(norm, eps, bounds, mask, attack="apgd")
    return GradientAttack(
        ball,
        AutoStep(ball.steepest(1.0), check_integer("steps", steps)),
        steps,
        loss=maximized.loss,
        start=_on_the_surface,
        restarts=restarts,
        early_stop=True,
        targeted=targeted,
        targets=check_integer("targets", targets) if maximized.targets else 0,
        least_classes=maximized.least_classes,
    )


def _on_the_surface(ball: Ball, x: Tensor, noise: Noise) -> Tensor:
    """Returns a start at distance eps from x: uniform numbers (Linf) or normal ones (L2), scaled."""
    delta = ball.masked(noise.normal(x) if isinstance(ball, L2) else noise.uniform(x))
    size = column(ball.distance(delta, ops.zeros_like(delta)), x)
    return ball.project(x + ball.radius * delta / ops.maximum(size, 1e-12), x)
