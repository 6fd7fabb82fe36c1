"""Transfer attacks: adversaries of other classifiers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from tfrobust.attacks.base import Attack
from tfrobust.attacks.gradients import Gradients
from tfrobust.attacks.registry import ATTACKS, register
from tfrobust.attacks.threat_model import NORMS, Ball
from tfrobust.classifiers import check_classifier, in_inference
from tfrobust.schedules import Schedule
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Classify, Tensor
from tfrobust.utils.validation import is_number

Source: TypeAlias = keras.Model | Classify | str | os.PathLike[str]


@keras.saving.register_keras_serializable(package="tfrobust")
class Transfer(Attack):
    """Implements `transfer`: run r attacks source r mod S with run r // S of the inner attack, for S sources."""

    kind = "transfer"

    def __init__(self, sources: Sequence[Classify], attack: Attack) -> None:
        super().__init__(
            attack.ball, targeted=attack.targeted, gradients=attack.gradients, least_classes=attack.least_classes
        )
        self.sources = tuple(sources)
        self.attack = attack

    def runs(self, classes: int) -> int:
        return len(self.sources) * self.attack.runs(classes)

    def cost(self, classes: int) -> tuple[int, int]:
        """Returns the (forwards, backwards) through one source for one image."""
        return self.attack.cost(classes)

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        count = len(self.sources)

        def attacked(source: Classify) -> Any:
            return lambda: self.attack.search(in_inference(source), x, y, seed, run // count)

        if count == 1 or isinstance(run, int):
            return attacked(self.sources[run % count if isinstance(run, int) else 0])()
        return ops.switch(run % count, [attacked(source) for source in self.sources])

    def expecting(self, gradients: Gradients) -> Transfer:
        attack = self.attack.expecting(gradients)
        return self._with(attack=attack, gradients=attack.gradients)

    def check_classes(self, classes: int) -> None:
        super().check_classes(classes)
        for source in self.sources:
            if isinstance(source, keras.Model) and (theirs := int(source.output["logits"].shape[-1])) != classes:
                raise InvalidArgument(
                    f"Invalid source {source.name!r}: expected one of the target's {classes} classes. "
                    f"Received: {theirs} classes"
                )


@register
def transfer(
    sources: Source | Sequence[Source],
    attack: str | Mapping[str, Any] | Attack = "pgd",
    eps: Schedule | None = None,
    *,
    norm: str | None = None,
    bounds: tuple[float, float] | None = None,
    mask: Any = None,
) -> Transfer:
    """Runs an attack on other classifiers, as an attacker does who does not know the weights of the target.

    Every source is attacked by itself, in runs of its own; the target is not queried. An attack that ends as soon as
    its source is fooled finds adversaries at the source's decision boundary, which transfer badly: take one that goes
    on, as `pgd` does. Szegedy et al. 2014 (Intriguing Properties of Neural Networks), section 4.1; Papernot et al. 2016
    (Transferability in Machine Learning).

    Args:
        sources: One classifier or several: a Keras model with named outputs, a function from pixels to a dict with
            "logits", or the path of a `.keras` file. Only with paths can a config be written and read.
        attack: The attack on the sources: a name, a config, or an `Attack`.
        eps: Radius in units of the pixels; None: that of the attack, as for the other arguments.
        norm: "linf", "l2" or "l1", if the attack knows it.
        bounds: Least and greatest pixel value.
        mask: See `pgd`.

    Returns:
        An `Attack` of kind "transfer", callable as `(classifier, x, y, seed=0) -> x_adv`.

    Raises:
        ValueError: if there are no sources, one is not a classifier, or the attack lies in another ball.

    Example:

    >>> source, target = (tfrobust.models.get("digits") for _ in range(2))
    >>> adversary = tfrobust.attacks.transfer(source, {"name": "mim", "steps": 2}, eps=0.15)
    >>> tuple(adversary(target, np.full((2, 8, 8, 1), 0.5, "float32"), np.array([3, 7])).shape)
    (2, 8, 8, 1)
    """
    given = {"eps": eps, "norm": norm, "bounds": bounds, "mask": mask}
    return Transfer(_loaded(sources), _inner(attack, {key: value for key, value in given.items() if value is not None}))


def _loaded(sources: Any) -> list[Classify]:
    each = list(sources) if isinstance(sources, (list, tuple)) else [sources]
    if not each:
        raise InvalidArgument("Invalid value for `sources`: expected at least one classifier. Received: none")
    classifiers = []
    for source in each:
        if isinstance(source, (str, os.PathLike)):
            if not os.path.isfile(source):
                raise InvalidArgument(
                    "Invalid value for `sources`: expected classifiers or paths of .keras files. "
                    f"Received: {os.fspath(source)!r}, where there is no file"
                )
            source = keras.models.load_model(source, compile=False)
        if isinstance(source, keras.Model) or not callable(source):
            check_classifier(source, reader="attack 'transfer'")
        classifiers.append(source)
    return classifiers


def _inner(attack: Any, given: Mapping[str, Any]) -> Attack:
    """Returns the attack on the sources, in the ball of the given arguments."""
    if isinstance(attack, (str, Mapping)):
        attack = ATTACKS.get_with(attack, **given)
    if not isinstance(attack, Attack):
        raise InvalidArgument(
            "Invalid value for `attack`: expected the name, the config or an instance of one attack of "
            f"tfrobust.attacks. Received: {attack!r}"
        )
    if not _is_in(attack.ball, **given):
        raise InvalidArgument(
            f"Invalid value for `attack`: expected one that stays within {dict(given)}. "
            f"Received: one in {attack.ball!r}"
        )
    return attack


def _is_in(ball: Ball, eps: Any = None, norm: Any = None, bounds: Any = None, mask: Any = None) -> Any:
    """Returns whether a ball has the arguments that are not None; a radius that is a schedule is not compared."""
    numbers = is_number(eps) and is_number(ball.eps)
    return (
        (not numbers or np.isclose(ball.radius, eps, rtol=1e-6))
        and (norm is None or type(ball) is NORMS.get(norm))
        and (bounds is None or ball.bounds == tuple(bounds))
        and (mask is None or (ball.mask is not None and np.array_equal(ball.mask, np.asarray(mask) > 0)))
    )
