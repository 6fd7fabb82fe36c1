"""The search for trade-off weights with KerasTuner, over the configs of `trainers`."""
