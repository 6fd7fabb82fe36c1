"""What an evaluation can run: a search for adversaries on a classifier's outputs, in graph code."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks.gradients import Gradients
from tfrobust.attacks.rows import where_rows, zeros
from tfrobust.attacks.threat_model import Ball
from tfrobust.classifiers import in_inference
from tfrobust.data import batch
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument, plain_errors
from tfrobust.utils.registry import Member

Tensor = Any
Classify = Callable[[Tensor], Mapping[str, Any]]
Self = TypeVar("Self", bound="Evasion")

LEAST = -3e38  # of a logit that is a number


class Evasion(Member):
    """Finds, image by image, an adversary inside a ball; the base of all that an evaluation runs.

    A subclass gives `search`, one run of it in graph code. What varies between runs (the random start, the class that
    is reached for) is a function of the noise and of the run's number, so one graph serves them all; an evaluation
    makes them one after the other, each on the images that are still right.

    Args:
        ball: where adversaries may lie.
        targeted: the labels are the classes to reach, not those to leave.
        gradients: the oracle of those that read gradients; None: queries alone.
        least_classes: fewest classes for which it is defined.
    """

    kind = "white box"  # or "black box", "transfer", "noise": what an evaluation's alarms compare

    def __init__(
        self, ball: Ball, *, targeted: bool = False, gradients: Gradients | None = None, least_classes: int = 2
    ) -> None:
        self.ball = ball
        self.targeted = targeted
        self.gradients = gradients
        self.least_classes = least_classes
        self._compiled: tuple[Classify, Callable[..., Any]] | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Returns what a registered factory makes of a config."""
        from tfrobust import attacks

        return attacks.get(dict(config))

    def runs(self, classes: int) -> int:
        """Returns how many runs make the whole search against a classifier of so many classes."""
        return 1

    def cost(self, classes: int) -> tuple[int, int]:
        """Returns (forwards, backwards) that one run's definition needs for one image, where nothing ends it early."""
        raise NotImplementedError

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        """Returns the adversarial pixels of one run; in graph code.

        Args:
            classify: pixels -> dict of named outputs, `logits` `(B, C)` among them.
            x: clean pixels, `(B, H, W, C)` float32 within the ball's bounds.
            y: labels, `(B,)` int32.
            seed: of this run, an int, a `(2,)` integer tensor, or a `Noise`.
            run: number of the run, from 0, an int or a scalar tensor.

        Returns:
            x_adv, shaped as x, inside the ball and the bounds; x itself (or what came nearest) where nothing was found.
        """
        raise NotImplementedError

    def expecting(self: Self, gradients: Gradients) -> Self:
        """Returns this attack with another oracle of gradients.

        Raises:
            ValueError: for an attack that reads none.
        """
        if self.gradients is None:
            raise InvalidArgument(
                f"Invalid attack {self.name!r}: expected one that follows gradients. Received: one of queries alone"
            )
        return self._with(gradients=gradients)

    @backend.as_written
    def __call__(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0) -> Tensor:
        """Returns adversarial pixels of all runs: for each image of the first that succeeds, else of the first run.

        Of an attack without a radius all runs are made, and an image gets the nearest of their adversaries.

        It can be called eagerly, in a `tf.function` (with XLA too) and in `Dataset.map`. No gradient flows back through
        it.

        Args:
            classify: pixels -> dict of named outputs: a classifier, or a function.
            x: clean pixels, `(B, H, W, C)` within the ball's bounds.
            y: true labels, `(B,)`, `(B, 1)` or one-hot `(B, classes)`; of a targeted attack the classes to reach.
            seed: of the random numbers, an int or a scalar integer tensor.

        Returns:
            x_adv, shaped as x.

        Raises:
            ValueError: for pixels outside the bounds, and what are no labels of the classifier.
        """
        backend.require("An attack")
        x, y = batch.check_direct(x, y, self.ball.bounds)
        if x.shape[0] == 0:
            return x
        seed, first = ops.cast(seed, "int32"), ops.convert_to_tensor(0, "int32")
        judged = self._compiled_for(classify)
        with plain_errors():
            kept, far, logits = judged(x, y, seed, first)
        runs = self.runs(logits.shape[-1])

        def left(run: Tensor, kept: Tensor, far: Tensor) -> Tensor:
            return (run < runs) & ops.any(far > 0)

        def again(run: Tensor, kept: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            found, its_far, _ = judged(x, y, seed, run)
            return run + 1, where_rows(its_far < far, found, kept), ops.minimum(its_far, far)

        if runs > 1:
            _, kept, _ = ops.while_loop(left, again, (first + 1, kept, far))
        return ops.stop_gradient(kept)

    def check_classes(self, classes: int) -> None:
        """Refuses a classifier of too few classes.

        Raises:
            ValueError: for fewer than `least_classes`.
        """
        if classes < self.least_classes:
            raise InvalidArgument(
                f"The attack {self!r} is defined for at least {self.least_classes} classes: expected another loss or "
                f"attack, such as apgd(loss='ce'). Received: a classifier of {classes} classes"
            )

    def _compiled_for(self, classify: Classify) -> Callable[..., Any]:
        """Returns one run as a compiled graph, the one of the call before where the classifier is the same."""
        if self._compiled is not None and self._compiled[0] is classify:
            return self._compiled[1]
        compiled = backend.compiled(self._judged(classify))
        if not backend.in_graph():  # a function that belongs to a graph can be of no use to another
            self._compiled = (classify, compiled)
        return compiled

    def _judged(self, classify: Classify) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        count = functools.partial(_classes, classify)
        classify = in_inference(classify)

        def judged(x: Tensor, y: Tensor, seed: Tensor, run: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = batch.check_labels(y, count(x))
            z = self.search(classify, x, y, ops.stack([seed, run]), run)
            logits = ops.cast(classify(z)["logits"], "float32")
            hit = losses.correct(logits, y) > 0
            return z, self.ball.far(z, x, hit if self.targeted else ~hit), logits

        return judged

    def _with(self: Self, **changes: Any) -> Self:
        changed = copy.copy(self)
        changed._compiled = None
        vars(changed).update(changes)
        return changed


@keras.saving.register_keras_serializable(package="tfrobust")
class Cascade(Member):
    """Attacks one after the other, each from the clean images and on those alone that all before it left right.

    Without a radius every member attacks every image that is right, and the nearest adversary is kept.

    An evaluation reports every member by itself.

    Args:
        members: `Evasion` instances in one ball.
        names: what a report calls them; None: their own names.
        notes: what takes another's place among them, in words, for the report.

    Raises:
        ValueError: for no members.
    """

    targeted = False

    def __init__(
        self, members: Sequence[Evasion], names: Sequence[str] | None = None, notes: Sequence[str] = ()
    ) -> None:
        if not members:
            raise InvalidArgument("Invalid value for `members`: expected at least one attack. Received: none")
        self.members = tuple(members)
        self.names = tuple(names or [member.name for member in members])
        self.notes = tuple(notes)

    from_config = Evasion.from_config

    @property
    def ball(self) -> Ball:
        """The members' ball."""
        return self.members[0].ball

    @backend.as_written
    def __call__(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0) -> Tensor:
        """Returns adversarial pixels, for each image of the first member that fools, else of the first member.

        Without a radius: of the member whose adversary is nearest. As `Evasion.__call__` it can be called in a graph,
        but not under XLA, whose batches have a size that is fixed.
        """
        backend.require("An attack")
        x, y = batch.check_direct(x, y, self.ball.bounds)
        kept, far = x, zeros(x) + math.inf

        def attacked(place: int, kept: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
            member, (alive,) = self.members[place], ops.nonzero(far > 0)
            clean, left, before = (ops.take(part, alive, axis=0) for part in (x, y, far))
            found = member(classify, clean, left, seed + place)
            right = losses.correct(ops.cast(classify(found)["logits"], "float32"), left) > 0
            its_far = member.ball.far(found, clean, ~right)
            # The first member's misses are as good as any.
            (rows,) = ops.nonzero(ops.ones_like(right) if place == 0 else its_far < before)
            kept = ops.scatter_update(kept, ops.take(alive, rows)[:, None], ops.take(found, rows, axis=0))
            return kept, ops.scatter_update(far, alive[:, None], ops.minimum(its_far, before))

        for place in range(len(self.members)):
            some, none = functools.partial(attacked, place, kept, far), functools.partial(tuple, (kept, far))
            kept, far = ops.cond(ops.any(far > 0), some, none)
        return ops.stop_gradient(kept)


def _classes(classify: Classify, x: Tensor) -> int:
    """Returns the number of classes: a model tells it, a function is asked about one image."""
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
    """Returns the wrong class of a rank, `(B,)` int32: 0 is the likeliest class beside the label.

    Args:
        logits: of the clean images, `(B, C)`.
        y: labels, `(B,)`.
        rank: from 0 to C - 2, an int or a scalar tensor.
    """
    classes = logits.shape[-1]
    # A class that is ruled out (logit -inf) comes last, but before the label itself.
    others = ops.maximum(ops.cast(logits, "float32"), LEAST)
    others = ops.where(ops.one_hot(y, classes, dtype="bool"), -float("inf"), others)
    order = ops.argsort(-others, axis=-1)
    return ops.cast(ops.take(order, ops.minimum(rank, classes - 2), axis=-1), "int32")
