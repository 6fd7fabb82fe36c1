"""Names the versions of the libraries."""

import keras
import tensorflow as tf


def versions() -> dict[str, str]:
    """Returns the versions of tensorflow, keras and tfrobust."""
    import tfrobust

    return {module.__name__: module.__version__ for module in (tf, keras, tfrobust)}
