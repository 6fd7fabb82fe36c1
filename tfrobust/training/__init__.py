"""The parts of `fit`; `step.py` is the training step itself."""
