"""Attacks of other libraries, as members of an evaluation: Foolbox and the Adversarial Robustness Toolbox (ART)."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfrobust.attacks.base import Classify
from tfrobust.attacks.rows import where_rows
from tfrobust.attacks.steps import count_values
from tfrobust.attacks.threat_model import ball
from tfrobust.classifiers import in_inference
from tfrobust.data import batch
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument, plain_errors
from tfrobust.utils.registry import unknown

Tensor = Any

KINDS = ("white box", "black box")


class Foreign:
    """An attack of another library, callable as `(classify, x, y) -> x_adv`, outside a graph.

    What it returns is brought back to where it had to stay: a pixel that the mask holds gets its clean value, and an
    image that lies outside the ball, or is not finite, is the clean one: the attack then found nothing.

    Args:
        name: for reports.
        settings: for reports.
        attacked: `(logits, classes, x, y) -> x_adv`, logits a function of pixels.
        eps: radius in units of the pixels, or None: adversaries of any size.
        norm: of the ball.
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change; None: all may.
        kind: "white box" or "black box".
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        attacked: Callable[[Callable[[Tensor], Tensor], int, Tensor, Tensor], Any],
        eps: float | None,
        norm: str,
        bounds: tuple[float, float],
        mask: Any,
        kind: str,
    ) -> None:
        if kind not in KINDS:
            raise unknown("value for `kind`", kind, KINDS)
        self.name = name
        self.kind = kind
        # The whole pixel range holds every image there is.
        self.ball = ball("linf", bounds[1] - bounds[0], bounds, mask) if eps is None else ball(norm, eps, bounds, mask)
        self._settings = {**settings, "eps": eps, "norm": norm, "bounds": bounds}
        self._attacked = attacked
        self._adapted: tuple[Classify, Callable[[Tensor], Tensor]] | None = None

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for a report: it cannot be made from them again."""
        return {"name": self.name, **self._settings}

    @backend.as_written
    def __call__(self, classify: Classify, x: Tensor, y: Tensor) -> Tensor:
        """Returns adversarial pixels, shaped as x.

        Args:
            classify: pixels -> dict of named outputs.
            x: clean pixels, `(B, H, W, C)` within the bounds.
            y: true labels, `(B,)`.

        Raises:
            ValueError: inside a `tf.function` or `Dataset.map`.
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
            asked = in_inference(classify)
            self._adapted = (classify, backend.compiled(lambda z: asked(ops.cast(z, "float32"))["logits"]))
        logits = self._adapted[1]
        classes = logits(x[:1]).shape[-1]
        with plain_errors():
            y = batch.check_labels(y, classes)
        z = ops.cast(self._attacked(logits, classes, x, y), "float32")
        z = ops.clip(x + self.ball.masked(z - x), *self.ball.bounds)
        rounding = 1e-4 * self.ball.radius + 1e-6 * self.ball.width  # project takes it away
        inside = self.ball.distance(z, x) <= self.ball.radius + rounding
        return where_rows(inside, self.ball.project(z, x), x)

    def __deepcopy__(self, memo: dict[int, Any]) -> Foreign:
        copied = copy.copy(self)  # its parts are not changed after they were made
        copied._adapted = None
        return copied

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self._settings.items())})"


def from_foolbox(
    attack: Any,
    eps: float | None = None,
    *,
    norm: str = "linf",
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    kind: str = "white box",
) -> Foreign:
    """Any attack of Foolbox 3, as a member of an evaluation.

    Rauber et al. 2020 (Foolbox Native). It gets a `TensorFlowModel` of the classifier's logits, the bounds, and the
    criterion that the true label is left. Needs `pip install tfrobust[peers]`.

    Both libraries measure in units of the pixels, but in L1 our eps is the mean absolute change and Foolbox's the sum:
    an attack that itself measures in L1 gets eps * H * W * C. The arguments with which `attack` was made stay as they
    are, in Foolbox's own units: an absolute step of its L1 attacks is a sum.

    Args:
        attack: an object of `foolbox.attacks`, such as `foolbox.attacks.LinfPGD(steps=40)`.
        eps: radius in units of the pixels, in the attack's own norm as well. None: adversaries of any size, for those
            that minimise it.
        norm: of the ball that adversaries have to lie in: "linf", "l2" or "l1". What lies outside counts as not found.
        bounds: least and greatest pixel value.
        mask: see `pgd`; Foolbox knows none, so that changes elsewhere are taken back once it is done. The radius is
            the same with and without a mask, in L1 too: eps * H * W * C over all values.
        kind: "white box", or "black box" for one that asks for labels or logits alone: for a report's alarms.

    Returns:
        A callable `(classify, x, y) -> x_adv` with a `name` and a `get_config`.

    Raises:
        ImportError: without Foolbox.
        ValueError: for what is none of its attacks; see `pgd`.
    """
    foolbox = _imported("foolbox", "from_foolbox")
    if not isinstance(attack, foolbox.attacks.base.Attack):
        raise InvalidArgument(
            "Invalid value for `attack`: expected an object of foolbox.attacks, such as "
            f"foolbox.attacks.LinfPGD(steps=40). Received: {attack!r}"
        )

    def attacked(logits: Callable[[Tensor], Tensor], classes: int, x: Tensor, y: Tensor) -> Tensor:
        model = foolbox.TensorFlowModel(logits, bounds=bounds)
        labels = ops.cast(y, "int64")  # as its own argmax: EagerPy 0.30 cannot compare types under NumPy 2
        of_sums = norm == "l1" and eps is not None and getattr(attack.distance, "p", None) == 1
        radius = _sum(eps, x) if of_sums else eps
        return attack(model, x, foolbox.criteria.Misclassification(labels), epsilons=radius)[0]

    settings = {key.strip("_"): value for key, value in vars(attack).items()}
    return Foreign(f"foolbox.{type(attack).__name__}", settings, attacked, eps, norm, bounds, mask, kind)


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
    """Any evasion attack of the Adversarial Robustness Toolbox (ART), as a member of an evaluation.

    Nicolae et al. 2018 (Adversarial Robustness Toolbox). Its attacks are made around an estimator: they get a
    `TensorFlowV2Classifier` of the classifier's logits, and true labels. Needs `pip install tfrobust[peers]`.

    Both libraries measure in units of the pixels, but in L1 our eps is the mean absolute change and ART's the sum: a
    class that takes `norm` gets eps * H * W * C with norm 1. Arguments of your own stay as they are, in ART's units,
    and so do its defaults: its `eps_step=0.1` is meant for pixels in [0, 1], and in L1 it is a sum.

    Args:
        make: a class of `art.attacks.evasion`, or a function `estimator -> attack`, which chooses its own radius.
        eps: radius in units of the pixels. None: adversaries of any size, for those that minimise it.
        norm: of the ball that adversaries have to lie in: "linf", "l2" or "l1". What lies outside counts as not found.
        bounds: least and greatest pixel value.
        mask: see `pgd`; changes elsewhere are taken back once the attack is done. The radius is the same with and
            without a mask, in L1 too: eps * H * W * C over all values.
        kind: "white box", or "black box" for one that asks for labels or logits alone: for a report's alarms.
        **arguments: of a class, in ART's names. `eps`, `norm`, `batch_size` and `verbose=False` are added where it
            takes them.

    Returns:
        A callable `(classify, x, y) -> x_adv` with a `name` and a `get_config`.

    Raises:
        ImportError: without ART.
        ValueError: for what makes no evasion attack, a targeted one, and arguments beside a function; see `pgd`.
    """
    evasion = _imported("art.attacks.evasion", "from_art")
    estimators = _imported("art.estimators.classification", "from_art")
    base = _imported("art.attacks", "from_art").EvasionAttack
    if not callable(make) or (inspect.isclass(make) and not issubclass(make, base)):
        raise InvalidArgument(
            "Invalid value for `make`: expected a class of art.attacks.evasion, or a function estimator -> attack. "
            f"Received: {make!r}"
        )
    if arguments and not inspect.isclass(make):
        raise InvalidArgument(f"Invalid arguments: expected none beside a function. Received: {sorted(arguments)}")
    takes = inspect.signature(make).parameters if inspect.isclass(make) else ()
    added = {"norm": {"linf": np.inf, "l2": 2, "l1": 1}.get(norm), "verbose": False}
    of_sums = norm == "l1" and "norm" in takes

    def made(estimator: Any, x: Tensor) -> Any:
        ours = {**added, "eps": _sum(eps, x) if of_sums else eps, "batch_size": len(x)}
        ours = {key: value for key, value in ours.items() if key in takes and value is not None}
        attack = make(estimator, **{**ours, **arguments})
        if not isinstance(attack, base):
            raise InvalidArgument(
                f"Invalid value for `make`: expected it to make an evasion attack. Received: {attack!r}"
            )
        if attack.targeted and not isinstance(attack, evasion.AutoAttack):  # to which targets come on top
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
        return made(estimator, x).generate(x=np.asarray(x), y=labels)

    name = getattr(make, "__name__", type(make).__name__)
    return Foreign(f"art.{name}", arguments, attacked, eps, norm, bounds, mask, kind)


def _sum(eps: float | None, x: Tensor) -> float | None:
    """Returns the greatest sum of changes in an image for the greatest mean."""
    return None if eps is None else eps * count_values(x)


def _imported(module: str, asking: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{asking} needs {module.split('.')[0]}: expected `pip install tfrobust[peers]`") from error
