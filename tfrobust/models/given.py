"""Stores the form in which an exposed model returns its predictions."""

from typing import Any

import keras

from tfrobust.utils.types import Tensor


@keras.saving.register_keras_serializable(package="tfrobust")
class Given(keras.layers.Layer):
    """Returns logits unchanged, and stores how the exposed model computes its predictions from them.

    Args:
        activation: The last activation of the model: "softmax", "sigmoid" or "linear".
        units: Number of units of the model's last layer; one unit is two logits `[0, z]`.
        **kwargs: `name` and `dtype`, as for every Keras layer.
    """

    def __init__(self, activation: str, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.form = activation
        self.units = units

    def call(self, logits: Tensor) -> Tensor:
        return logits

    def predictions(self, logits: Tensor) -> Tensor:
        """Returns the model's predictions for logits `(B, C)`: probabilities or scores `(B, units)`."""
        z = logits[:, 1:] - logits[:, :1] if self.units == 1 else logits
        return keras.activations.get(self.form)(z)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.form, "units": self.units}


def remembering(outputs: dict[str, Tensor], activation: str, units: int) -> dict[str, Tensor]:
    """Returns named outputs whose logits carry the model's last step, unless it is the identity."""
    if activation == "linear" and units > 1:
        return outputs
    logits = outputs["logits"]
    return {**outputs, "logits": Given(activation, units, dtype=logits.dtype)(logits)}
