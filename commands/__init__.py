"""Parts that several commands share. `import tfrobust` loads TensorFlow; this package answers `--help` without it."""
