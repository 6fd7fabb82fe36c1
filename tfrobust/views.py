"""The input of every loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from tfrobust.classifiers import REMEDIES
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Tensor


class Observed(NamedTuple):
    """Holds how many iterates of a search were classified correctly for each image, `count` `(B,)`, out of `of`."""

    count: Tensor
    of: int


class Outputs(Mapping[str, Any]):
    """Holds the named outputs of a forward pass that runs when one of them is first read.

    Floating tensors are returned as float32, so that a loss never computes in 16 bits under mixed precision.
    """

    def __init__(
        self, view: str, outputs: Mapping[str, Any] | Callable[[], Mapping[str, Any]], reads: set[str]
    ) -> None:
        self._view = view
        self._outputs = outputs
        self._reads = reads

    @property
    def computed(self) -> bool:
        """Returns whether the forward pass has run."""
        return not callable(self._outputs)

    def forward(self) -> Mapping[str, Any]:
        """Runs the forward pass if it has not run, and returns its outputs."""
        if callable(self._outputs):
            self._outputs = self._outputs()
        return self._outputs

    def __getitem__(self, name: str) -> Any:
        self._reads.add(f"{self._view}.{name}")
        outputs = self.forward()
        if name not in outputs:
            raise InvalidArgument(
                f"A loss reads `{self._view}[{name!r}]`, which this classifier does not have: expected one of "
                f"{sorted(outputs)}. Received: {name!r}. {REMEDIES.get(name, '')}".rstrip()
            )
        output = outputs[name]
        return {k: _float32(v) for k, v in output.items()} if isinstance(output, Mapping) else _float32(output)

    def __iter__(self) -> Iterator[str]:
        return iter(self.forward())

    def __len__(self) -> int:
        return len(self.forward())


class Views:
    """Holds the input of every loss: labels, pixels, and the classifier's outputs on the clean and the attacked batch.

    A loss is a pure function `Views -> (B,)`. `clean` and `adv` are mappings, or functions without arguments that are
    called when an output is first read, so that an objective pays only for the forward passes that it reads.

    Args:
        y: Labels, `(B,)` integers.
        x: Clean pixels, `(B, H, W, C)` as fractions of the range [0, 1].
        x_adv: Adversarial pixels, shaped as `x`.
        clean: Name -> output of the classifier on `x`, or a function that returns such a mapping.
        adv: The same on `x_adv`.
        observed: An `Observed`: how many iterates of the search were classified correctly.
        target: The wrong class `(B,)` that a targeted adversary currently aims at.
        batch_mean: `(B,) -> ()`, the mean over the global batch; the only cross-example reduction a loss may use.

    Example:

    >>> views = tfrobust.Views(y=[0], clean={"logits": [[0.0, 0.0]]})
    >>> loss = tfrobust.objectives.standard().outer["clean_cross_entropy"].loss
    >>> round(float(loss(views)[0]), 3)
    0.693
    """

    def __init__(
        self,
        *,
        y: Tensor,
        x: Tensor | None = None,
        x_adv: Tensor | None = None,
        clean: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        adv: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        observed: Observed | None = None,
        target: Tensor | None = None,
        batch_mean: Callable[[Tensor], Tensor] = ops.mean,
    ) -> None:
        self.y = ops.convert_to_tensor(y)
        self.x = x
        self.x_adv = x_adv
        self.observed = observed
        self.target = target
        self.batch_mean = batch_mean
        self.reads: set[str] = set()
        self.clean = Outputs("clean", _absent("clean") if clean is None else clean, self.reads)
        self.adv = Outputs("adv", _absent("adv") if adv is None else adv, self.reads)

    @property
    def sides(self) -> set[str]:
        """Returns the sides, "clean" and "adv", that losses have read since `reads` was last cleared."""
        return {read.split(".")[0] for read in self.reads}

    def forwards(self) -> dict[str, Mapping[str, Any]]:
        """Returns the outputs of the sides whose forward pass has run."""
        return {view: outputs for view, outputs in (("clean", self.clean), ("adv", self.adv)) if outputs.computed}

    def attacked(self, x_adv: Tensor, adv: Callable[[], Mapping[str, Any]]) -> Views:
        """Returns these views with another attacked batch; both share the clean side's forward pass."""
        views = Views(y=self.y, x=self.x, x_adv=x_adv, adv=adv, target=self.target, batch_mean=self.batch_mean)
        views.clean = self.clean
        return views


def _float32(tensor: Tensor) -> Tensor:
    tensor = ops.convert_to_tensor(tensor)
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return ops.cast(tensor, "float32") if dtype in ("float16", "bfloat16", "float64") else tensor


def _absent(view: str) -> Callable[[], Mapping[str, Any]]:
    def read() -> Mapping[str, Any]:
        raise InvalidArgument(
            f"A loss reads `views.{view}`, which is missing: expected `{view}=` outputs of a classifier. "
            "An objective without an inner loss has no adversarial view."
        )

    return read
