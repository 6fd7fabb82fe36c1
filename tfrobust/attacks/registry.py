"""The family of attacks by name, and the arguments that many of them share: their texts and the default radius."""

from tfrobust.attacks.base import Attack, Cascade
from tfrobust.utils.docstrings import with_shared
from tfrobust.utils.registry import Factory, OfRange, Registry

ATTACKS = Registry("attack", Attack, Cascade)
get, names = ATTACKS.get, ATTACKS.names

EPS = OfRange(8 / 255)  # the default radius

_START = (
    'start: "auto" (the objective\'s start if it has one, else the attack\'s own), "uniform", "normal", "none", or a '
    "function `(ball, x, noise) -> z`."
)
_RESTARTS = (
    "restarts: Number of independent searches from other random numbers. An evaluation and a call keep the first that "
    "fools; training keeps the one with the greatest loss."
)
_RESULT = (
    "Returns:\n    {} `{}`, callable as `(classifier, x, y, seed=0) -> x_adv`.\n\nRaises:\n    ValueError: if a number "
    "is out of its range, a count is below 1, a name is unknown, or the mask does not fit."
)

# The text for `{{name}}` in the docstring of an attack.
SHARED = {
    "eps": "eps: Radius in units of the pixels; by default 8/255 of the pixel range.",
    "eps_schedule": "eps: Radius in units of the pixels, or a schedule over the fractional epoch; by default 8/255 of "
    "the pixel range.",
    "eps_or_none": "eps: Radius in units of the pixels; an adversary farther away does not count. None: adversaries of "
    "any size count, and the nearest is returned.",
    "norm": 'norm: "linf" or "l2".',
    "any_norm": 'norm: "linf", "l2", or "l1" (radius and step size are then mean absolute changes).',
    "start": _START,
    "restarts": _RESTARTS,
    "search": f'{_START}\n{_RESTARTS}\nkeep: Return the "last" iterate, or the "best" by loss.\nearly_stop: Return the '
    "first iterate that fools the classifier, else the best one, and end the search once every image is fooled.",
    "targeted": "targeted: The labels are the classes to reach, not those to leave.",
    "ball": "bounds: Least and greatest pixel value.\nmask: 1 where a pixel may change, 0 where not, `(H, W, C)`, "
    "`(H, W, 1)` or, for one batch, `(B, H, W, C)`; None: all may. The radius is the same with and without a mask.",
    "loss": 'loss: The loss to maximize, `Views -> (B,)`, or a name, "adversarial_cross_entropy", "margin" or '
    '"cosine_cross_entropy" (of the cosines of a normalized head); None: cross entropy, or the objective\'s inner loss '
    "in a trainer.",
    "returns": _RESULT.format("An", "Attack"),
    "returns_gradient_attack": _RESULT.format("A", "GradientAttack"),
}


def register(factory: Factory) -> Factory:
    """Registers a function that makes an attack, under its own name; what it makes remembers its arguments.

    A line `{{name}}` of its docstring is replaced by the text of `SHARED` under that name.
    """
    return ATTACKS.register(with_shared(factory, SHARED))
