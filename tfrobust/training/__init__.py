"""Parts of a training step and of `fit`; the trainer puts them together."""
