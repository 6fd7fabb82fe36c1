"""Augments a batch by a pure function of the batch and a seed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrobust.utils.errors import invalid_value
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_integer, check_number

Augmentation = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Augment:
    """Crops the padded image at random, and mirrors it horizontally with probability 1/2.

    From each image with `pad` pixels of `fill` around it, a window is cut at offsets (i, j) of its own, uniform in
    {0, ..., 2 pad}^2. The usual choice for CIFAR-10 is `Augment(pad=4, flip=True)`.

    Args:
        pad: pixels on every side; with 0 images are not moved.
        flip: whether images are mirrored left to right, which is wrong for digits and letters.
        fill: value of the border, a pixel fraction in [0, 1].

    Raises:
        ValueError: for a negative or fractional `pad`, a `flip` that is not a bool, or a `fill` outside [0, 1].

    Example:

    >>> augment = tfrobust.data.Augment(pad=2, flip=False)
    >>> tuple(augment(tf.ones((5, 8, 8, 1)), seed=[0, 1]).shape)
    (5, 8, 8, 1)
    """

    pad: int = 4
    flip: bool = True
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_integer("pad", self.pad, 0)
        if not isinstance(self.flip, bool):
            raise invalid_value("flip", "True or False", self.flip)
        check_number("fill", self.fill, 0, 1, expected="a fraction")

    def __call__(self, x: Tensor, seed: Tensor) -> Tensor:
        """Returns the augmented batch, `(B, H, W, C)`: the same for the same seed.

        Args:
            x: pixels, `(B, H, W, C)` floats.
            seed: two integers.
        """
        shape = tf.shape(x)
        batch, height, width = shape[0], shape[1], shape[2]
        for_rows, for_columns, for_mirror = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
        rows = tf.tile(tf.range(height)[None], [batch, 1])
        columns = tf.tile(tf.range(width)[None], [batch, 1])
        if self.flip:
            # The column numbers are mirrored, not the pixels, so that one gather below suffices.
            mirrored = _uniform([batch, 1], for_mirror, 2) == 1
            columns = tf.where(mirrored, width - 1 - columns, columns)
        if self.pad:
            border = [[0, 0], [self.pad, self.pad], [self.pad, self.pad], [0, 0]]
            padded = tf.pad(x, border, constant_values=tf.cast(self.fill, x.dtype))
            rows += _uniform([batch, 1], for_rows, 2 * self.pad + 1)
            columns += _uniform([batch, 1], for_columns, 2 * self.pad + 1)
            cut = tf.gather(padded, rows, axis=1, batch_dims=1)
        else:
            cut = x
        return tf.ensure_shape(tf.gather(cut, columns, axis=2, batch_dims=1), x.shape)


def get(augment: Any) -> Augmentation | None:
    """Returns the augmentation for None, an `Augment`, a mapping of its arguments, or a function `(x, seed) -> x`.

    Raises:
        ValueError: for anything else, and for an argument that `Augment` does not have.
    """
    if augment is None or callable(augment):
        return augment
    if hasattr(augment, "keys"):  # also ml_collections' ConfigDict, which is not a `Mapping`
        fields = [field.name for field in dataclasses.fields(Augment)]
        if others := [key for key in augment.keys() if key not in fields]:  # noqa: SIM118
            raise unknown("argument of augment", others[0], fields)
        return Augment(**augment)
    forms = "None, a tfrobust.data.Augment, a mapping such as {'pad': 4, 'flip': True}, or a function (x, seed) -> x"
    raise invalid_value("augment", forms, augment)


def _uniform(shape: Any, seed: Tensor, count: int) -> Tensor:
    # The generator is named: "auto" would draw other numbers on another kind of device.
    return tf.random.stateless_uniform(shape, seed, 0, count, dtype=tf.int32, alg="philox")
