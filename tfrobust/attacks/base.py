"""The base of all attacks: the loop over attempts, its rule of success, and the cascade of several attacks."""

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks.gradients import Gradients
from tfrobust.attacks.rows import where_rows, zeros
from tfrobust.attacks.straight_through import followed
from tfrobust.attacks.threat_model import Ball
from tfrobust.classifiers import in_inference
from tfrobust.data import batch
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument, plain_errors
from tfrobust.utils.registry import Member
from tfrobust.utils.types import Classify, Tensor
from tfrobust.utils.validation import check_integer

# (index, far) -> (pixels, their far) on the whole batch; `far` says which images still need an attempt, see `Ball.far`.
Attempt = Callable[[Any, Tensor], tuple[Tensor, Tensor]]

LEAST = -3e38  # least finite logit


class CallableAttack(Member):
    """Is called as `(classifier, x, y, seed=0) -> x_adv`; a subclass says which attempts a call makes in turn."""

    ball: Ball

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Returns the attack that a registered factory makes from a config."""
        from tfrobust import attacks

        return attacks.get(dict(config))

    @backend.as_written
    def __call__(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0) -> Tensor:
        """Returns adversarial pixels: for each image those of the first attempt that succeeds, else of the first one.

        An attack without a radius makes all attempts and returns the nearest adversary of each image.

        It can be called eagerly, in a `tf.function` and in `Dataset.map`; an attack, but not a cascade, also under XLA,
        for which a batch has a fixed size. No gradient flows back through it.

        Args:
            classify: A classifier, or a function from pixels to a dict of named outputs, "logits" among them.
            x: Clean pixels, `(B, H, W, C)` within the ball's bounds.
            y: True labels, `(B,)`, `(B, 1)` or one-hot `(B, classes)`. A targeted attack takes the classes to reach.
            seed: Seed of the random numbers, an int or a scalar integer tensor.

        Returns:
            x_adv, shaped as x.

        Raises:
            ValueError: if pixels lie outside the bounds, or labels are not those of the classifier.
        """
        backend.require("An attack")
        x, y = batch.check_direct(x, y, self.ball.bounds)
        if x.shape[0] == 0:
            return x
        with plain_errors():
            return ops.stop_gradient(self._best_found(classify, x, y, ops.cast(seed, "int32"))[0])

    def _best_found(self, classify: Classify, x: Tensor, y: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the pixels that a call returns, and by how much they can still be bettered (see `Ball.far`)."""
        attempt, count = self._attempts(classify, x, y, seed)

        def unfinished(index: Tensor, kept: Tensor, far: Tensor) -> Tensor:
            return (index < count) & ops.any(far > 0)

        def next_attempt(index: Tensor, kept: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            z, its_far = attempt(index, far)
            return index + 1, where_rows(its_far < far, z, kept), ops.minimum(its_far, far)

        kept, far = attempt(0, zeros(x) + math.inf)
        if count > 1:
            _, kept, far = ops.while_loop(unfinished, next_attempt, (ops.convert_to_tensor(1, "int32"), kept, far))
        return kept, far

    def _attempts(self, classify: Classify, x: Tensor, y: Tensor, seed: Tensor) -> tuple[Attempt, int]:
        """Returns the function that makes an attempt by its index, from 0, and how many attempts there are."""
        raise NotImplementedError


@dataclasses.dataclass(eq=False, repr=False)
class Attack(CallableAttack):
    """Finds an adversary inside a ball for each image; the abstract base of all attacks.

    A subclass implements `search`, one run in graph code. What varies between runs (the random start, the class to
    reach) is a function of the noise and of the run's number, so that one graph serves all runs. Each run attacks the
    images that are still classified right. The settings of a subclass are further fields of the dataclass; a subclass
    with a constructor of its own calls this one.

    Args:
        ball: The threat model: where adversaries may lie.
        targeted: Whether the labels are the classes to reach rather than those to leave.
        gradients: The oracle of an attack that follows gradients; None for an attack that makes queries alone.
        least_classes: Fewest classes for which the attack is defined.
        restarts: Number of runs with other random numbers.
    """

    ball: Ball
    _: dataclasses.KW_ONLY
    targeted: bool = False
    gradients: Gradients | None = None
    least_classes: int = 2
    restarts: int = 1

    kind = "white box"  # or "black box", "transfer", "noise": what the alarms of an evaluation compare
    counts: ClassVar[tuple[str, ...]] = ("restarts",)  # settings that have to be integers of at least 1

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Attack:
            raise TypeError(
                "Attack is the abstract base of all attacks: expected GradientAttack(ball, step, steps, ...), another "
                "subclass, or a function such as tfrobust.attacks.pgd. Received: Attack(...)"
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in self.counts:
            setattr(self, name, check_integer(name, getattr(self, name)))

    def runs(self, classes: int) -> int:
        """Returns how many runs make the whole search against a classifier of so many classes."""
        return self.restarts

    def cost(self, classes: int) -> tuple[int, int]:
        """Returns the most (forwards, backwards) that one run makes for one image."""
        raise NotImplementedError

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        """Returns the adversarial pixels of one run; in graph code.

        Args:
            classify: A function from pixels to a dict of named outputs, `logits` `(B, C)` among them.
            x: Clean pixels, `(B, H, W, C)` float32 within the ball's bounds.
            y: Labels, `(B,)` int32.
            seed: Seed of this run, an int, a `(2,)` integer tensor, or a `Noise`.
            run: Number of the run, from 0, an int or a scalar tensor.

        Returns:
            x_adv, shaped as x, inside the ball and the bounds, whether or not it is an adversary.
        """
        raise NotImplementedError

    def expecting(self, gradients: Gradients) -> Self:
        """Returns a copy of this attack that follows another oracle of gradients; an attack by queries has none.

        The parts of `straight_through` add up: they stay with the next oracle, and leave the oracle before as it is.
        """
        if self.gradients is None or self.kind == "black box":
            raise InvalidArgument(
                f"Invalid attack {self.name!r}: expected one that follows gradients. Received: one of queries alone"
            )
        return self._with(gradients=followed(self.gradients, gradients))

    def check_classes(self, classes: int) -> None:
        """Raises `InvalidArgument` for a classifier of fewer classes than `least_classes`."""
        if classes < self.least_classes:
            raise InvalidArgument(
                f"The attack {self!r} is defined for at least {self.least_classes} classes: expected another loss or "
                f"attack, such as apgd(loss='ce'). Received: a classifier of {classes} classes"
            )

    def _attempts(self, classify: Classify, x: Tensor, y: Tensor, seed: Tensor) -> tuple[Attempt, int]:
        """Returns the runs of the search, each on the whole batch."""
        run, classes = self._compiled_for(classify, x)
        return (lambda index, far: run(x, y, seed, ops.convert_to_tensor(index, "int32"))), self.runs(classes)

    def _compiled_for(self, classify: Classify, x: Tensor) -> tuple[Callable[..., Any], int]:
        """Returns one run as a compiled graph, and the number of classes; both are kept for the next call."""
        if self._compiled is not None and self._compiled[0] is classify:
            return self._compiled[1:]
        classes = _number_of_classes(classify, x)
        compiled = backend.compiled(self._run(in_inference(classify), classes))
        if not backend.in_graph():  # another graph cannot call a function that belongs to this one
            self._compiled = (classify, compiled, classes)
        return compiled, classes

    def _run(self, classify: Classify, classes: int) -> Callable[..., tuple[Tensor, Tensor]]:
        def run(x: Tensor, y: Tensor, seed: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            y = batch.check_labels(y, classes)
            z = self.search(classify, x, y, ops.stack([seed, index]), index)
            right = losses.correct(ops.cast(classify(z)["logits"], "float32"), y) > 0
            return z, self.ball.far(z, x, right if self.targeted else ~right)

        return run

    def _with(self, **changes: Any) -> Self:
        changed = copy.copy(self)
        changed._compiled = None
        vars(changed).update(changes)
        return changed


@keras.saving.register_keras_serializable(package="tfrobust")
class Cascade(CallableAttack):
    """Runs attacks one after the other, each from the clean images and only on those that still need an adversary.

    Without a radius every attack runs on all images, and the nearest adversary is kept. An evaluation reports every
    member by itself.

    Args:
        members: `Attack` instances in one ball.
        names: Names of the members in a report; None: their own names.
        notes: Sentences for the report, such as which attack was replaced by which.
    """

    targeted = False

    def __init__(
        self, members: Sequence[Attack], names: Sequence[str] | None = None, notes: Sequence[str] = ()
    ) -> None:
        if not members:
            raise InvalidArgument("Invalid value for `members`: expected at least one attack. Received: none")
        self.members = tuple(members)
        self.names = tuple(names or [member.name for member in members])
        self.notes = tuple(notes)
        self.ball = self.members[0].ball

    def _attempts(self, classify: Classify, x: Tensor, y: Tensor, seed: Tensor) -> tuple[Attempt, int]:
        """Returns the members, each of which attacks a batch of the images that still need an adversary."""

        def attempt_of(member: Attack, index: Any, far: Tensor) -> tuple[Tensor, Tensor]:
            (needing,) = ops.nonzero(far > 0)
            images, labels = (ops.take(part, needing, axis=0) for part in (x, y))
            z, its_far = member._best_found(classify, images, labels, seed + index)
            rows = needing[:, None]
            return ops.scatter_update(x, rows, z), ops.scatter_update(far, rows, its_far)

        def attempt(index: Any, far: Tensor) -> tuple[Tensor, Tensor]:
            if isinstance(index, int):
                return attempt_of(self.members[index], index, far)
            return ops.switch(index, [functools.partial(attempt_of, member, index, far) for member in self.members])

        return attempt, len(self.members)


def _number_of_classes(classify: Classify, x: Tensor) -> int:
    """Returns the number of classes: a model's output has it, a function is called with one image."""
    outputs = getattr(classify, "output", None) if isinstance(classify, keras.Model) else None
    if not isinstance(outputs, Mapping):
        outputs = classify(x[:1])
    if not isinstance(outputs, Mapping) or "logits" not in outputs:
        raise InvalidArgument(
            "Invalid classifier: expected named outputs, 'logits' among them, as tfrobust.expose(model) gives them. "
            f"Received: {type(outputs).__name__}"
        )
    return int(outputs["logits"].shape[-1])


def ranked_target(logits: Tensor, y: Tensor, rank: Any) -> Tensor:
    """Returns the wrong class of a rank by the clean logits, `(B,)` int32; rank 0 is the likeliest beside the label."""
    classes = logits.shape[-1]
    # A class that is ruled out (logit -inf) comes last, but before the label itself.
    others = ops.maximum(ops.cast(logits, "float32"), LEAST)
    others = ops.where(ops.one_hot(y, classes, dtype="bool"), -float("inf"), others)
    order = ops.argsort(-others, axis=-1)
    return ops.cast(ops.take(order, ops.minimum(rank, classes - 2), axis=-1), "int32")
