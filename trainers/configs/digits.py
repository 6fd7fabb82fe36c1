"""Handwritten digits of scikit-learn, 8x8 pixels: the default, trained in about a minute on 2 cores.

The argument picks the objective: `--config=digits:trades`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, config_dict

from commands import config as _base

# Wong et al. 2020 (Fast is Better than Free), algorithm 3: FGSM from a uniform start, with a step past the ball.
FAST = {"objective": {"name": "madry"}, "attack": {"steps": 1, "relative_step_size": 1.25, "start": "uniform"}}
WRITTEN = Path(__file__).with_name("digits.json")


def declared() -> dict[str, dict[str, Any]]:
    """Returns for each registered objective the default "arguments" of its function and the "row" that it declares."""
    from tfrobust.objectives import OBJECTIVES, digits_row

    return {
        name: {
            "arguments": {key: parameter.default for key, parameter in OBJECTIVES.parameters(name).items()},
            "row": {"objective": {}, **digits_row(name)},
        }
        for name in OBJECTIVES.names()
    }


def objectives() -> dict[str, dict[str, Any]]:
    """Returns what `declared` does; while TensorFlow, which is slow to load, is not there, from a file."""
    text = json.dumps(declared()) if "tfrobust" in sys.modules else WRITTEN.read_text(encoding="utf-8")
    return {name: _with_tuples(objective) for name, objective in json.loads(text).items()}


def _with_tuples(value: Any) -> Any:
    """Returns the fields of a config, whose sequences are tuples."""
    if isinstance(value, dict):
        return {key: _with_tuples(part) for key, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def training(rate: float, epochs: int) -> dict[str, Any]:
    """Returns the fields of a training whose learning rate falls to zero over the epochs."""
    decay = {"name": "CosineDecay", "initial_learning_rate": rate, "decay_steps": epochs}
    return {"learning_rate": decay, "epochs": epochs, "monitor": "val_robust_accuracy"}


def rows() -> dict[str, _base.Settings]:
    """Returns what each row sets: those that the objectives declare, and "fast"."""
    return {**{name: objective["row"] for name, objective in objectives().items()}, "fast": FAST}


def _objective(row: str, given: _base.Settings) -> dict[str, Any]:
    """Returns an objective with all its arguments, so that `--config.objective.beta=3` finds each of them."""
    name = given.get("name", row)
    arguments = {
        argument: config_dict.placeholder(float) if default is None else default
        for argument, default in objectives()[name]["arguments"].items()
    }
    return {"name": name, **arguments, **given}


def get_config(row: str = "madry") -> ConfigDict:
    """Returns the configuration of a run; every field can be overridden as `--config.field=value`."""
    own = dict(_base.pick(__file__, rows(), row))
    attack = dict(own.pop("attack", {}))
    relative_step_size = attack.pop("relative_step_size", None)
    config = _base.build(
        {
            "data": {"name": "digits", "batch_size": 64, "validation": 0.1, "augment": _base.NO_AUGMENT},
            "model": {"name": "digits"},
            # None leaves an argument to the attack's own default.
            "attack": {
                "name": "pgd",
                "eps": 0.15,
                "steps": 10,
                "step_size": config_dict.placeholder(float),
                "norm": config_dict.placeholder(str),
                "start": config_dict.placeholder(str),
                "restarts": config_dict.placeholder(int),
                **attack,
            },
            "optimizer": {"name": "adam"},
            **training(2e-3, 40),
            "evaluation": {"attacks": "quick"},
        },
        {**own, "objective": _objective(row, own["objective"])},
    )
    if relative_step_size is not None:  # the step size follows an eps that is overridden
        del config.attack.step_size
        config.attack.step_size = config.attack.get_ref("eps") * relative_step_size
    # The ball of training, unless another is given.
    config.evaluation.eps = config.attack.get_ref("eps") * 1
    config.evaluation.norm = config.attack.get_oneway_ref("norm")
    return config


if __name__ == "__main__":  # writes the file anew, after an objective has changed
    WRITTEN.write_text(json.dumps(declared(), indent=1) + "\n", encoding="utf-8")
