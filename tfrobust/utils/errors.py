"""Makes the error for an invalid argument, and carries it out of a compiled graph to the user."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from tfrobust.utils.types import Tensor

# A graph prints [<<] [sentence] [>>], eager code b'<<'\nb'sentence'\nb'>>'.
BEFORE_END = r"(?:\]\s*\[|['\"]\s*b['\"]|\s*)"


class InvalidArgument(ValueError):
    """An argument of the user is invalid: the message says what was expected, what was received, and what to do."""

    __init__ = Exception.__init__  # AutoGraph raises such a class again as it is, and any other as one of its own


def invalid(subject: str, expected: str, received: object) -> InvalidArgument:
    """Returns the error for an invalid subject, such as "data" or "shape of x"."""
    return InvalidArgument(f"Invalid {subject}: expected {expected}. Received: {received}")


def invalid_value(name: str, expected: str, received: object) -> InvalidArgument:
    """Returns the error for an invalid value of an argument, given by its name."""
    return invalid(f"value for `{name}`", expected, repr(received))


def demand(condition: Tensor, sentence: Tensor, *values: Tensor) -> tf.Operation:
    """Returns an operation that raises where a condition is false; `plain_errors` finds its sentence again.

    A graph gets sentence and values in parts: XLA cannot format a string, but it can leave a check out.

    Args:
        condition: a scalar.
        sentence: a string that begins with "Invalid" or "Diverged", with a `{}` for each value.
        *values: scalars that the sentence shows.
    """
    if not values:
        parts = [sentence]
    elif tf.executing_eagerly():
        parts = [tf.strings.format(sentence, values)]
    else:
        first, *others = sentence.split("{}")
        parts = [first, *(part for pair in zip(values, others, strict=True) for part in pair)]
    return tf.debugging.Assert(condition, ["<<", *parts, ">>"])


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Raises the sentence of a failed `demand` in the block's graphs as InvalidArgument or FloatingPointError."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(rf"<<.*?((?:Invalid|Diverged) .*?){BEFORE_END}>>", error.message, re.DOTALL)
        if not found:
            raise
        parts = found.group(1).replace("] [", "") if "[<<]" in error.message else found.group(1)
        sentence = re.sub(r"\\(['\"\\])", r"\1", parts)  # both escape quotation marks
    else:
        return
    raise (FloatingPointError if sentence.startswith("Diverged") else InvalidArgument)(sentence)
