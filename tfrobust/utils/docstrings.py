"""Texts that the docstrings of a family of functions share."""

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def with_shared(function: Function, texts: Mapping[str, str]) -> Function:
    """Returns the function, in whose docstring each line `{{name}}` is replaced by the text of that name."""

    def text_of(found: re.Match[str]) -> str:
        margin, name = found.groups()
        lines = []
        for line in texts[name].split("\n"):
            indent = margin + line[: len(line) - len(line.lstrip())]
            lines.append(textwrap.fill(line.strip(), 120, initial_indent=indent, subsequent_indent=indent + 4 * " "))
        return "\n".join(lines)

    if function.__doc__:
        function.__doc__ = re.sub(r"^( *)\{\{(\w+)\}\}$", text_of, function.__doc__, flags=re.MULTILINE)
    return function
