"""Command lines that train and evaluate: thin compositions of `tfrobust`."""
