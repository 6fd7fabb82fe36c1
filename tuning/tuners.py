"""The tuners of a search: each name is an oracle of KerasTuner, with the number of epochs that it will train."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras_tuner
from keras_tuner import oracles
from sklearn.exceptions import ConvergenceWarning

from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import Registry
from tfrobust.utils.validation import check_integer
from tuning.spaces import Dimension

SCORE = "score"


class Plan(NamedTuple):
    """The plan of a search: the oracle that draws the trials, and the numbers of trials and epochs."""

    oracle: Any
    trials: int
    epochs: int  # of all trials together; the epochs that a promoted trial inherits count once
    goes_on: bool = False  # whether a trial may continue another one that had fewer epochs


_registry = Registry("tuner")
names, register = _registry.names, _registry.register


def get(identifier: Any, space: Sequence[Dimension], seed: int, trials: int, epochs: int) -> Plan:
    """Returns the plan of a tuner, a name or a config, with a seed of its draws.

    `trials` is the number of trials for the tuners that do not determine it, `epochs` is that of a full training.
    """
    hyperparameters = keras_tuner.HyperParameters()
    for dimension in space:
        dimension.declare(hyperparameters)
    options = {
        "objective": keras_tuner.Objective(SCORE, "max"),
        "hyperparameters": hyperparameters,
        "seed": 1 + 1000 * seed,  # KerasTuner takes 0 for "any", and the draws of consecutive seeds overlap
        "tune_new_entries": False,
        "allow_new_entries": False,
        "max_retries_per_trial": 0,
        "max_consecutive_failed_trials": 10**9,  # the search continues after trials that diverged
    }
    points = math.prod(dimension.points for dimension in space)
    plan: Plan = _registry.get(identifier, options=options, points=points, trials=trials, epochs=epochs)
    plan.oracle.verbose = 0
    keras_private.draw_to_the_last(plan.oracle)
    return plan


@register
def random(options: dict[str, Any], points: float, trials: int, epochs: int) -> Plan:
    """Draws each trial at random, none twice."""
    trials = int(min(trials, points))
    return Plan(oracles.RandomSearchOracle(**options, max_trials=trials), trials, trials * epochs)


class _Bayesian(oracles.BayesianOptimizationOracle):
    """KerasTuner's oracle, without the warning that a length scale of the Gaussian process is at its bound."""

    def populate_space(self, trial_id: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().populate_space(trial_id)


@register
def bayesian(options: dict[str, Any], points: float, trials: int, epochs: int) -> Plan:
    """Draws a few trials at random, then each where a Gaussian process of the scores expects the best one."""
    at_random = int(min(3 * len(options["hyperparameters"].space), points))  # only the random trials are all different
    oracle = _Bayesian(**options, max_trials=trials, num_initial_points=at_random)
    return Plan(oracle, trials, int(min(trials, points)) * epochs)


@register
def grid(options: dict[str, Any], points: float, trials: int, epochs: int) -> Plan:
    """Tries every combination; a range contributes its integers, or its least value and ten more."""
    size = math.prod(len({hp.default, *hp.values}) for hp in options["hyperparameters"].space)
    return Plan(oracles.GridSearchOracle(**options), size, size * epochs)


@register
def hyperband(options: dict[str, Any], points: float, trials: int, epochs: int, factor: int = 3) -> Plan:
    """Begins many short trials and continues the best ones for `factor` times as long. Li et al. 2018 (Hyperband)."""
    check_integer("factor", factor, 2)
    oracle = oracles.HyperbandOracle(**options, max_epochs=epochs, factor=factor)
    brackets = keras_private.rounds_of(oracle)
    if points < (begun := sum(size for (size, _), *_ in brackets)):
        raise InvalidArgument(
            f"Hyperband of {epochs} epochs begins {begun} different trials: expected a space of as many points, or "
            f"search.tuner=grid. Received: {points}"
        )
    sizes, spent = 0, 0
    for rounds in brackets:
        behind = 0
        for size, ends in rounds:
            sizes, spent, behind = sizes + size, spent + size * (ends - behind), ends
    return Plan(oracle, sizes, spent, goes_on=True)
