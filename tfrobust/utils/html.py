"""Renders HTML pages.

A page is a template that extends `templates/base.html` and a function that returns its context; `render` joins them.
All text is escaped, pictures are data URIs, and a content security policy prevents the page from loading anything, so
that a page is complete in one file.
"""

import functools
from typing import Any

import jinja2

from tfrobust.utils import text as _text


def render(template: str, **context: Any) -> str:
    """Returns the page of a template in `tfrobust/templates/`; a variable that the context lacks is an error.

    Example:

    >>> page = tfrobust.utils.html.render("base.html")
    >>> page.splitlines()[0]
    '<!DOCTYPE html>'
    """
    return _environment().get_template(template).render(**context)


def interval(share: float, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the exact interval of a share k / n by Clopper and Pearson.

    It holds all p for which both P(X >= k) and P(X <= k) of X ~ Binomial(n, p) are at least (1 - confidence) / 2.

    Args:
        share: k / n, in [0, 1].
        count: n, at least 1.
        confidence: confidence level of the interval.

    Example:

    >>> low, high = tfrobust.utils.html.interval(0.5, 10)
    >>> round(low, 3), round(high, 3)
    (0.187, 0.813)

    Reference: Clopper and Pearson 1934, The use of confidence or fiducial limits illustrated in the case of the
    binomial.
    """
    from scipy import stats

    return stats.binomtest(round(share * count), count).proportion_ci(confidence, method="exact")


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
