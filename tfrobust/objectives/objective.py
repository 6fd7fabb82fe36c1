"""An objective: the loss that the attack maximizes and the terms that training minimizes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, overload

import keras
from keras import ops

from tfrobust.attacks import starts
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.utils.docstrings import with_shared
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import Member, Registry, unknown
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_nonnegative, check_number
from tfrobust.views import Views

Loss = Callable[[Views], Any]
Factory = TypeVar("Factory", bound=Callable[..., Any])
Limits = tuple[float, float] | tuple[float, float, str]  # lowest and highest value, and "log" for a logarithmic scale

RESERVED = ("loss", "accuracy", "robust_accuracy")  # names that the trainer itself logs


class Term(NamedTuple):
    """Holds a summand of the training loss: a loss `Views -> (B,)` and a weight, a number or a schedule of epochs."""

    loss: Loss
    weight: Schedule = 1.0


@dataclasses.dataclass(frozen=True)
class Multiplier:
    """Holds the weight mu of a term under a constraint: mu <- max(mu + rate * (mean(loss) - bound), 0).

    The trainer holds mu as a variable, which checkpoints contain, and updates it after each step. The numbers are at
    least 0.

    Args:
        bound: Greatest allowed mean of the term's loss.
        rate: Step of the ascent.
        initial: mu at the start.
    """

    bound: float
    rate: float = 0.01
    initial: float = 1.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            check_nonnegative(name, value)

    def __call__(self, epoch: Any) -> float:
        """Returns the initial value at any epoch; it is the weight outside a trainer."""
        return self.initial

    def next(self, mu: Tensor, mean: Tensor, share: float = 1.0) -> Tensor:
        """Returns mu after one step of the ascent, on the mean of the term's loss over the global batch.

        `share` is 1/k where an optimizer accumulates the gradients of k batches.
        """
        return ops.maximum(mu + share * self.rate * (mean - self.bound), 0.0)


@keras.saving.register_keras_serializable(package="tfrobust")
class Objective(Member):
    """Describes a training method: min over weights of sum_t weight_t * mean(loss_t), x' = argmax of the inner loss.

    Args:
        inner: The loss that the attack maximizes, `Views -> (B,)`, or `Views -> ((B,), (B,))`, of which the second is
            summed over the iterates; None: training without attack.
        outer: Name in the log -> `Term` or loss; "loss", "accuracy" and "robust_accuracy" are names of the trainer.
        needs: Names of the classifier's outputs that the losses read.
        start: The start of the search if that of the attack is "auto": "uniform", "normal", "none" or a function. None:
            the attack's own start.
        share: The attacked part of each batch, in (0, 1]. Below 1 the last rows are attacked, the others stay clean,
            and both go through the classifier in one forward pass; a loss then reads one of the two sides. At least one
            row is attacked. Under several replicas each attacks the last rows of its own part of the batch.
        least_steps: Fewest steps of the attack.
        advice: Functions `classifier -> str | None`; the trainer warns with the strings that they return.
        weight_perturbation: gamma, the size of an adversarial perturbation of the kernels, relative to each one's norm,
            or a schedule over the fractional epoch; see `awp`. 0: none.

    Example:

    >>> from keras import ops
    >>> def squared_logits(views):
    ...     return ops.sum(views.clean["logits"] ** 2, axis=-1)
    >>> standard = tfrobust.objectives.standard()
    >>> objective = tfrobust.Objective(None, {**standard.outer, "squares": tfrobust.Term(squared_logits, weight=0.01)})
    >>> sorted(objective.outer)
    ['clean_cross_entropy', 'squares']
    """

    def __init__(
        self,
        inner: Loss | None,
        outer: Mapping[str, Term | Loss],
        *,
        needs: Iterable[str] = ("logits",),
        start: str | starts.Start | None = None,
        share: float = 1.0,
        least_steps: int = 1,
        advice: Iterable[Callable[[keras.Model], str | None]] = (),
        weight_perturbation: Schedule = 0.0,
    ) -> None:
        if not outer:
            raise InvalidArgument("Invalid value for `outer`: expected at least one term. Received: {}")
        if reserved := [name for name in outer if name in RESERVED]:
            raise InvalidArgument(f"Invalid names in `outer`: {RESERVED} are the trainer's. Received: {reserved}")
        check_number("share", share, 0, 1, above=True, expected="a part of the batch")
        self.inner = inner
        self.outer = {name: term if isinstance(term, Term) else Term(term) for name, term in outer.items()}
        self.needs = frozenset(needs)
        self.start = starts.get(start)
        self.share = share
        self.least_steps = least_steps
        self.advice = tuple(advice)
        self.weight_perturbation = nonnegative("weight_perturbation", weight_perturbation)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Objective:
        """Returns the objective of a config, by its registered factory."""
        return OBJECTIVES.get(dict(config))


OBJECTIVES = Registry("objective", Objective)
get, names = OBJECTIVES.get, OBJECTIVES.names

_OFF_LABEL = (
    "off_label_smoothing: s in [0, 1]: the update's target is 1 - s for the label, s / (C - 1) for each other class."
)
# The text for `{{name}}` in the docstring of an objective.
SHARED = {
    "off_label_smoothing": _OFF_LABEL,
    "smoothing": "label_smoothing: s in [0, 1]: the update's target is (1 - s) * one_hot(y) + s / C, as in Keras.\n"
    + _OFF_LABEL,
    "returns": "Returns:\n    An `Objective`; its `needs` names the outputs of a classifier that it reads.",
}


@overload
def register(factory: Factory) -> Factory: ...
@overload
def register(
    *, search: Mapping[str, Limits] | None = None, digits: Mapping[str, Any] | None = None
) -> Callable[[Factory], Factory]: ...
def register(
    factory: Any = None, *, search: Mapping[str, Limits] | None = None, digits: Mapping[str, Any] | None = None
) -> Any:
    """Registers a function that returns an `Objective` under its own name, as `@register` or `@register(search=...)`.

    A line `{{name}}` of its docstring is replaced by the text of `SHARED` under that name.

    Args:
        factory: The function.
        search: Argument -> limits: the space that `tfrobust search` varies where a config names none of its own.
        digits: The fields of the objective's row in `trainers/configs/digits.py`: its "objective" has only the
            arguments that differ from the function's defaults, and its "attack" is laid over PGD with 10 steps; there
            "relative_step_size" is a step size divided by eps. None: a row without fields of its own.

    Example:

    >>> tfrobust.objectives.search_space("trades")
    {'beta': (0.5, 20.0, 'log')}
    """

    def registered(factory: Any) -> Any:
        arguments = inspect.signature(factory).parameters
        for argument in search or {}:
            if argument not in arguments:
                raise unknown(f"argument in `search` of {factory.__name__!r}", argument, arguments)
        made = OBJECTIVES.register(with_shared(factory, SHARED))
        vars(made).update(search=dict(search or {}), digits=dict(digits or {}))
        return made

    return registered if factory is None else registered(factory)


def search_space(name: str) -> Mapping[str, Limits]:
    """Returns argument -> limits, as an objective's `register` declared them; {} for an unknown name."""
    return getattr(OBJECTIVES.factory(name), "search", {})


def digits_row(name: str) -> Mapping[str, Any]:
    """Returns the fields that an objective's `register` declared for its row of `trainers/configs/digits.py`."""
    return getattr(OBJECTIVES.factory(name), "digits", {})
