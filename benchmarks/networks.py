"""Small robust networks that benchmarks attack; each is trained once and kept."""

from pathlib import Path

from ml_collections import ConfigDict

from commands import config as _base
from trainers.configs import digits
from trainers.train import run


def config_of(data: str, eps: float, epochs: int, objective: str = "madry") -> ConfigDict:
    """Returns the config of a `digits` network that is trained by an objective and PGD-7 on a data set."""
    config = digits.get_config(objective)
    config.data.update(name=data, batch_size=128, validation=0.05)
    config.model = {"name": "digits", "features": 64}
    # From a small radius on: at the full one this network does not begin to learn.
    ramp = _base.linear(eps / 10, eps, 2 * epochs / 3)
    config.attack = {**config.attack.to_dict(), "eps": ramp, "steps": 7}
    config.update(digits.training(2e-3, epochs))
    config.evaluation = {"attacks": "", "norm": "linf"}
    return config


def trained(data: str, eps: float, epochs: int, workdir: Path) -> Path:
    """Returns the file of a network of `config_of`; it is trained if there is none."""
    if not (workdir / "saved_model").exists():
        run(config_of(data, eps, epochs).to_dict(), workdir)
    return workdir / "classifier.keras"
