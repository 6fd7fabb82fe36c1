"""Parts that several commands share: configs, the folder of a run, gates, strategies, the command line.

A package of its own, for `import tfrobust` loads TensorFlow: `--help` and a mistyped flag are answered without it.
"""
