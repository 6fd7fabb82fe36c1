"""Command lines that train and evaluate: thin compositions of `tfrobust`."""

__all__ = ["configs", "evaluate", "train"]
