"""Renders HTML pages.

A page is a template that extends `templates/base.html` and a function that returns its context; `render` joins them.
All text is escaped, pictures are data URIs, and a content security policy prevents the page from loading anything, so
that it can be mailed and archived.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jinja2

from tfrobust.utils import text as _text


class Interval(NamedTuple):
    """The lower and the upper bound of a share."""

    low: float
    high: float


def render(template: str, **context: Any) -> str:
    """Returns the page of a template in `tfrobust/templates/`; a name that the context lacks is an error.

    Args:
        template: its file name.
        **context: the variables that it reads; text is escaped.

    Example:

    >>> page = tfrobust.utils.html.render("base.html")
    >>> page.splitlines()[0]
    '<!DOCTYPE html>'
    """
    return _environment().get_template(template).render(**context)


def interval(share: float, count: int, confidence: float = 0.95) -> Interval:
    r"""Returns the exact interval of a share by Clopper and Pearson.

    All p under which k or more, and k or fewer, of n right ones both have a probability of at least (1 - confidence)/2.

    Args:
        share: k / n, in [0, 1].
        count: n, at least 1.
        confidence: of the interval.

    Example:

    >>> low, high = tfrobust.utils.html.interval(0.5, 10)
    >>> round(low, 3), round(high, 3)
    (0.187, 0.813)

    Reference: Clopper and Pearson 1934, The use of confidence or fiducial limits illustrated in the case of the
    binomial.
    """
    from scipy import stats

    found = stats.binomtest(round(share * count), count).proportion_ci(confidence, method="exact")
    return Interval(float(found.low), float(found.high))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfrobust"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number, duration=duration)
    return environment


def percent(share: float) -> str:
    return _unbroken(_text.percent(share))


def number(value: float) -> str:
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    return _unbroken(_text.duration(seconds, decimals=1))


def _unbroken(text: str) -> str:
    """Returns a figure and its unit with a space between them that does not break."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")
