"""Imports packages that are installed on request, when they are needed."""

import importlib
from typing import Any


def imported(module: str, extra: str, asking: str) -> Any:
    """Returns a module of an optional package.

    Args:
        module: its full name.
        extra: the extra of tfrobust that installs it.
        asking: what needs it, the subject of the error's sentence.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ImportError(f"{asking} needs {package}: expected `pip install tfrobust[{extra}]`") from error
