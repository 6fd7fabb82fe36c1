"""The default search: TRADES' beta on scikit-learn's digits, in trainings that are short enough for two cores.

The argument picks another objective: `--config=digits:mart`; its own weights are searched.
"""

from ml_collections import ConfigDict

from trainers.configs import digits

EPOCHS = 10


def get_config(row: str = "trades") -> ConfigDict:
    """Returns the configuration of a search; every field can be overridden as `--config.field=value`."""
    config = digits.get_config(row)
    config.update(digits.training(2e-3, EPOCHS))
    config.search.trials, config.search.finalists = 8, 2
    return config
