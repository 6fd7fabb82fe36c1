"""From a saved classifier to a served or a shipped one."""

__all__ = ["litert", "onnx", "savedmodel"]
