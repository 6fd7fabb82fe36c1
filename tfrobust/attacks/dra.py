"""DRA: gradient ascent on the values with the greatest gradients, in the ball of the mean absolute change."""

from typing import Any

from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.registry import register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import RelativeStepSize, TopKGradient
from tfrobust.attacks.threat_model import L1
from tfrobust.attacks.view_losses import Loss
from tfrobust.schedules import Schedule
from tfrobust.utils.registry import OfRange
from tfrobust.utils.validation import check_integer

MEAN_EPS = OfRange(1 / 255)  # the default radius of DRA, a mean change


@register
def dra(
    eps: Schedule = MEAN_EPS,
    step_size: float | None = None,
    steps: int = 5,
    *,
    p: float = 1 / 3,
    fixed_mask: bool = False,
    start: str | Start = "auto",
    restarts: int = 1,
    keep: str = "last",
    early_stop: bool = False,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    loss: str | Loss | None = None,
) -> GradientAttack:
    """Runs DRA: z <- project(z + step_size * N * g / ||g||_1 * top), in the ball of the mean absolute change.

    `top` is 1 for the share p of an image's N = H * W * C values with the largest |g|, and there is no sign. The sum of
    all changes is at most eps * N, with or without a mask. It starts at the image itself. Thesis, section 4.4.2. Its
    constants are not printed and are a **choice**: the gradient is normalized before `top` is applied, and with p = 1
    all steps together reach the edge of the ball and no further. A small p is then weaker, as in the figure 4.4 there.
    Longer steps leave the ball, and the projection back onto it concentrates the change on few values, which makes a
    small p stronger.

    Args:
        eps: Greatest mean absolute change in units of the pixels, or a schedule over the fractional epoch; by default
            1/255 of the pixel range.
        step_size: Mean absolute change of a step with p = 1; None: eps / steps.
        steps: Number of iterations. 5 for CIFAR-10, 20 for MNIST.
        p: Share of the values that change at a step, in (0, 1]. 1/3 for CIFAR-10, 2/3 for MNIST.
        fixed_mask: Choose the values at the first step alone.
        {{search}}
        {{targeted}}
        {{ball}}
        {{loss}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.dra(eps=2 / 255).ball.radius * 255
    2.0
    """
    size = RelativeStepSize(1.0 / check_integer("steps", steps)) if step_size is None else step_size
    search: dict[str, Any] = {"start": start, "restarts": restarts, "keep": keep, "early_stop": early_stop}
    ball, step = L1(eps, bounds, mask), TopKGradient(size, p, fixed_mask)
    return GradientAttack(ball, step, steps, loss=loss, own_start="none", targeted=targeted, **search)
