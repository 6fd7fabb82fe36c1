"""Attacks of Foolbox and of the Adversarial Robustness Toolbox (ART) as members of an evaluation."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfrobust.attacks import threat_model
from tfrobust.attacks.rows import where_rows
from tfrobust.attacks.steps import count_values
from tfrobust.attacks.threat_model import Ball
from tfrobust.classifiers import in_inference
from tfrobust.data import batch
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument, plain_errors
from tfrobust.utils.optional import imported
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Classify, Tensor

KINDS = ("white box", "black box")


@dataclasses.dataclass(eq=False, repr=False)
class Foreign:
    """Calls an attack of another library as `(classifier, x, y) -> x_adv`, outside a graph.

    Pixels outside the mask get their clean values, and an image that lies outside the ball or is not finite is replaced
    by the clean one, so that it counts as not found.
    """

    name: str
    settings: Mapping[str, Any]  # in reports
    attack: Callable[[Callable[[Tensor], Tensor], int, Tensor, Tensor], Any]  # (logits, classes, x, y) -> x_adv
    ball: Ball
    kind: str  # one of `KINDS`

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("value for `kind`", self.kind, KINDS)
        self._adapted: tuple[Classify, Callable[[Tensor], Tensor]] | None = None

    def get_config(self) -> dict[str, Any]:
        """Returns the settings for a report; the attack cannot be made from them."""
        return {"name": self.name, **self.settings}

    @backend.as_written
    def __call__(self, classify: Classify, x: Tensor, y: Tensor) -> Tensor:
        """Returns adversarial pixels, shaped as x.

        Args:
            classify: A function from pixels to a dict of named outputs.
            x: Clean pixels, `(B, H, W, C)` within the bounds.
            y: True labels, `(B,)`.

        Raises:
            ValueError: if it is called inside a `tf.function` or `Dataset.map`.
        """
        backend.require("An attack")
        if backend.in_graph():
            raise InvalidArgument(
                f"The attack {self.name!r} of another library computes with values, which a graph does not have yet: "
                "expected a call outside of tf.function and Dataset.map. Received: a call while a graph is traced"
            )
        x, y = batch.check_direct(x, y, self.ball.bounds)
        if x.shape[0] == 0:
            return x
        if self._adapted is None or self._adapted[0] is not classify:
            frozen = in_inference(classify)
            self._adapted = (classify, backend.compiled(lambda z: frozen(ops.cast(z, "float32"))["logits"]))
        logits = self._adapted[1]
        classes = logits(x[:1]).shape[-1]
        with plain_errors():
            y = batch.check_labels(y, classes)
        z = ops.cast(self.attack(logits, classes, x, y), "float32")
        z = ops.clip(x + self.ball.masked(z - x), *self.ball.bounds)
        rounding = 1e-4 * self.ball.radius + 1e-6 * self.ball.width  # removed by the projection below
        inside = self.ball.distance(z, x) <= self.ball.radius + rounding
        return where_rows(inside, self.ball.project(z, x), x)

    def __deepcopy__(self, memo: dict[int, Any]) -> Foreign:
        copied = copy.copy(self)  # a shallow one is enough: the parts are never changed
        copied._adapted = None
        return copied

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.settings.items())})"


def from_foolbox(
    attack: Any,
    eps: float | None = None,
    *,
    norm: str = "linf",
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    kind: str = "white box",
) -> Foreign:
    """Returns an attack of Foolbox 3 (Rauber et al. 2020) as a member of an evaluation.

    It gets a `TensorFlowModel` of the classifier's logits, the bounds, and the criterion of misclassification. Needs
    `pip install tfrobust[peers]`.

    Both libraries measure in units of the pixels, but in L1 our eps is the mean absolute change and Foolbox's the sum:
    an attack that itself measures in L1 gets eps * H * W * C. The arguments with which `attack` was made stay as they
    are, in Foolbox's own units: an absolute step of its L1 attacks is a sum.

    Args:
        attack: An object of `foolbox.attacks`, such as `foolbox.attacks.LinfPGD(steps=40)`.
        eps: Radius in units of the pixels, also of the attack itself, in its own norm. None: adversaries of any size,
            for attacks that minimize it.
        norm: Norm of the ball, "linf", "l2" or "l1"; an adversary outside the ball counts as not found.
        bounds: Least and greatest pixel value.
        mask: See `pgd`; changes outside are undone after the attack. The radius is the same with and without a mask,
            in L1 too: eps * H * W * C over all values.
        kind: "white box", or "black box" for an attack that queries labels or logits alone; alarms compare it.

    Returns:
        A callable `(classifier, x, y) -> x_adv` with a `name` and a `get_config`.

    Raises:
        ImportError: if Foolbox is not installed.
        ValueError: if `attack` is not an attack of Foolbox; see `pgd` for the other arguments.
    """
    foolbox = imported("foolbox", "peers", "from_foolbox")
    if not isinstance(attack, foolbox.attacks.base.Attack):
        raise InvalidArgument(
            "Invalid value for `attack`: expected an object of foolbox.attacks, such as "
            f"foolbox.attacks.LinfPGD(steps=40). Received: {attack!r}"
        )

    def attacked(logits: Callable[[Tensor], Tensor], classes: int, x: Tensor, y: Tensor) -> Tensor:
        model = foolbox.TensorFlowModel(logits, bounds=bounds)
        labels = ops.cast(y, "int64")  # the type of its own argmax: EagerPy 0.30 cannot compare types under NumPy 2
        sums = norm == "l1" and eps is not None and getattr(attack.distance, "p", None) == 1
        radius = _sum(eps, x) if sums else eps
        return attack(model, x, foolbox.criteria.Misclassification(labels), epsilons=radius)[0]

    settings = {key.strip("_"): value for key, value in vars(attack).items()}
    settings = {**settings, "eps": eps, "norm": norm, "bounds": bounds}
    return Foreign(f"foolbox.{type(attack).__name__}", settings, attacked, ball_of(eps, norm, bounds, mask), kind)


def from_art(
    make: Any,
    eps: float | None = None,
    *,
    norm: str = "linf",
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    kind: str = "white box",
    **arguments: Any,
) -> Foreign:
    """Returns an evasion attack of the Adversarial Robustness Toolbox (ART) as a member of an evaluation.

    Nicolae et al. 2018 (Adversarial Robustness Toolbox). Its attacks are made around an estimator: they get a
    `TensorFlowV2Classifier` of the classifier's logits, and true labels. Needs `pip install tfrobust[peers]`.

    Both libraries measure in units of the pixels, but in L1 our eps is the mean absolute change and ART's the sum: a
    class that takes `norm` gets eps * H * W * C with norm 1. Arguments of your own stay as they are, in ART's units,
    and so do its defaults: its `eps_step=0.1` is meant for pixels in [0, 1], and in L1 it is a sum.

    Args:
        make: A class of `art.attacks.evasion`, or a function `estimator -> attack`, which chooses its own radius.
        eps: Radius in units of the pixels. None: adversaries of any size, for attacks that minimize it.
        norm, bounds, mask, kind: as in `from_foolbox`.
        **arguments: Arguments of a class, under ART's names. `eps`, `norm`, `batch_size` and `verbose=False` are added
            if it takes them.

    Returns:
        A callable `(classifier, x, y) -> x_adv` with a `name` and a `get_config`.

    Raises:
        ImportError: if ART is not installed.
        ValueError: if `make` does not make an evasion attack, the attack is targeted, or there are arguments beside a
            function; see `pgd` for the other arguments.
    """
    evasion = imported("art.attacks.evasion", "peers", "from_art")
    estimators = imported("art.estimators.classification", "peers", "from_art")
    base = imported("art.attacks", "peers", "from_art").EvasionAttack
    if not callable(make) or (inspect.isclass(make) and not issubclass(make, base)):
        raise InvalidArgument(
            "Invalid value for `make`: expected a class of art.attacks.evasion, or a function estimator -> attack. "
            f"Received: {make!r}"
        )
    if arguments and not inspect.isclass(make):
        raise InvalidArgument(f"Invalid arguments: expected none beside a function. Received: {sorted(arguments)}")
    takes = inspect.signature(make).parameters if inspect.isclass(make) else ()
    added = {"norm": {"linf": np.inf, "l2": 2, "l1": 1}.get(norm), "verbose": False}
    sums = norm == "l1" and "norm" in takes

    def attack_on(estimator: Any, x: Tensor) -> Any:
        given = {**added, "eps": _sum(eps, x) if sums else eps, "batch_size": len(x)}
        given = {key: value for key, value in given.items() if key in takes and value is not None}
        attack = make(estimator, **{**given, **arguments})
        if not isinstance(attack, base):
            raise InvalidArgument(
                f"Invalid value for `make`: expected it to make an evasion attack. Received: {attack!r}"
            )
        if attack.targeted and not isinstance(attack, evasion.AutoAttack):  # AutoAttack runs untargeted as well
            raise InvalidArgument(
                f"Invalid attack: expected an untargeted one, for labels are true ones. Received: {attack!r}"
            )
        return attack

    def attacked(logits: Callable[[Tensor], Tensor], classes: int, x: Tensor, y: Tensor) -> Any:
        estimator = estimators.TensorFlowV2Classifier(
            model=lambda z, training=False: logits(z),
            nb_classes=classes,
            input_shape=tuple(x.shape[1:]),
            loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
            clip_values=bounds,
        )
        labels = np.asarray(ops.one_hot(y, classes), "float32")
        return attack_on(estimator, x).generate(x=np.asarray(x), y=labels)

    name = getattr(make, "__name__", type(make).__name__)
    settings = {**arguments, "eps": eps, "norm": norm, "bounds": bounds}
    return Foreign(f"art.{name}", settings, attacked, ball_of(eps, norm, bounds, mask), kind)


def ball_of(eps: float | None, norm: str, bounds: tuple[float, float], mask: Any) -> Ball:
    """Returns the ball of the arguments; without a radius the whole pixel range, which holds all images."""
    if eps is None:
        return threat_model.ball("linf", bounds[1] - bounds[0], bounds, mask)
    return threat_model.ball(norm, eps, bounds, mask)


def _sum(eps: float | None, x: Tensor) -> float | None:
    """Returns the sum of changes in an image whose mean is eps."""
    return None if eps is None else eps * count_values(x)
