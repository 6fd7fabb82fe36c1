"""Where a search looks: defaults that every objective has, refusals of what is no space."""

import copy
import math

import pytest

import tfrobust
from tfrobust.objectives import search_space
from trainers.configs import digits
from tuning.spaces import Choice, Range, space_of, with_values

BETA = "objective.beta"


def config_of(*space, row="trades"):
    config = digits.get_config(row).to_dict()
    config["search"]["space"] = space
    return config


def test_every_objective_has_a_default_space():
    assert all(map(search_space, tfrobust.objectives.names()))


@pytest.mark.parametrize("row", digits.rows())
def test_the_ends_of_a_default_space_make_objectives(row):
    config = config_of(row=row)
    for dimension in space_of(config):
        group, argument = dimension.field.split(".")
        assert argument in config[group]  # a field that the command line has, too
        for end in (dimension.low, dimension.high):
            objective = with_values(config, {dimension.field: end})[group]
            given = {name: value for name, value in objective.items() if value is not None}
            assert tfrobust.objectives.get(given).get_config()[argument] == end


def test_a_default_space_can_be_written_down():
    for row in digits.rows():
        space = space_of(config_of(row=row))
        written = [{"field": d.field, "min": d.low, "max": d.high, "sampling": d.sampling} for d in space]
        assert space_of(config_of(*written, row=row)) == space


def test_ranges_and_choices():
    space = space_of(
        config_of(
            {"field": BETA, "min": 1, "max": 20.0, "sampling": "log"},
            {"field": "data.batch_size", "min": 16, "max": 64},
            {"field": "weight_decay", "values": [0, 1e-4]},
            {"field": "mixed_precision", "values": [True, False]},
            {"field": "attack.start", "values": ["uniform", "gaussian"]},
        )
    )
    assert space == [
        Range(BETA, 1, 20.0, "log"),
        Range("data.batch_size", 16, 64),
        Choice("weight_decay", (0.0, 1e-4)),
        Choice("mixed_precision", (True, False)),
        Choice("attack.start", ("uniform", "gaussian")),
    ]
    assert [d.points for d in space] == [math.inf, 49, 2, 2, 2]
    assert [d.value(0) for d in space[2:4]] == [0.0, False]
    assert space[3].value(1) is True  # KerasTuner makes numbers of booleans


def test_an_argument_that_the_config_leaves_to_its_default_can_be_varied():
    config = config_of({"field": "objective.warmup", "min": 0, "max": 10}, row="gairat")
    del config["objective"]["warmup"]
    assert with_values(config, {space_of(config)[0].field: 3})["objective"]["warmup"] == 3


def test_with_values_leaves_its_input_alone():
    config = config_of()
    before = copy.deepcopy(config)
    changed = with_values(config, {BETA: 3.0, "optimizer.name": "sgd", "seed": 4})
    assert config == before
    assert (changed["objective"]["beta"], changed["optimizer"]["name"], changed["seed"]) == (3.0, "sgd", 4)
    changed["data"]["name"] = "other"
    assert config == before


@pytest.mark.parametrize(
    "space, message",
    [
        ([{"field": "objective.bete", "min": 1.0, "max": 2.0}], r"Did you mean 'objective.beta'\?"),
        ([{"field": "objectiv.beta", "min": 1.0, "max": 2.0}], "Unknown field in search.space"),
        ([{"field": "objective.beta.x", "min": 1.0, "max": 2.0}], "Unknown field in search.space"),
        ([{"field": "objective", "values": ["trades", "mart"]}], "'objective', a group"),
        ([{"field": "search.trials", "min": 1, "max": 2}], "Unknown field in search.space"),
        ([{"field": "epochs", "min": 1, "max": 2}], "Unknown field in search.space"),  # a trial has its own
        ([{"field": "evaluation.eps", "min": 0.1, "max": 0.2}], "Unknown field in search.space"),
        ([{"field": "", "min": 1, "max": 2}], "Unknown field in search.space"),
        ([{"field": 3, "min": 1, "max": 2}], "expected dicts"),
        ([{"field": BETA}], "expected dicts"),
        ([{"field": BETA, "min": 1.0}], "expected dicts"),
        ([{"field": BETA, "min": 1.0, "max": 2.0, "values": [1.0]}], "expected dicts"),
        ([{"field": BETA, "min": 1.0, "max": 2.0, "step": 1}], "expected dicts"),
        ([BETA], "expected dicts"),
        ({"field": BETA, "min": 1.0, "max": 2.0}, "expected dicts"),
        ([{"field": BETA, "min": 2.0, "max": 2.0}], "expected min < max"),
        ([{"field": BETA, "min": 3.0, "max": 2.0}], "expected min < max. Received: min=3.0, max=2.0"),
        ([{"field": BETA, "min": math.nan, "max": 2.0}], "expected finite numbers"),
        ([{"field": BETA, "min": 1.0, "max": math.nan}], "expected finite numbers"),
        ([{"field": BETA, "min": 1.0, "max": math.inf}], "expected finite numbers"),
        ([{"field": BETA, "min": "1", "max": 2.0}], "expected finite numbers"),
        ([{"field": BETA, "min": False, "max": True}], "expected finite numbers"),
        ([{"field": BETA, "min": None, "max": 2.0}], "expected finite numbers"),
        ([{"field": BETA, "min": 0.0, "max": 2.0, "sampling": "log"}], "expected min > 0 with sampling='log'"),
        ([{"field": BETA, "min": 1.0, "max": 2.0, "sampling": "lgo"}], r"Did you mean 'log'\?"),
        ([{"field": BETA, "min": 1.0, "max": 2.0}] * 2, "'objective.beta' twice"),
        ([{"field": BETA, "values": []}], "expected a list of at least one"),
        ([{"field": BETA, "values": "trades"}], "expected a list of at least one"),
        ([{"field": BETA, "values": 3}], "expected a list of at least one"),
        ([{"field": BETA, "values": [1, "2"]}], "all of one kind"),
        ([{"field": BETA, "values": [True, 2]}], "all of one kind"),
        ([{"field": BETA, "values": [None]}], "all of one kind"),
        ([{"field": BETA, "values": [[1], [2]]}], "all of one kind"),
        ([{"field": BETA, "values": [1.0, 2.0, 1.0]}], "each once"),
        ([{"field": BETA, "values": [1.0, math.nan]}], "expected finite numbers"),
        ([{"field": BETA, "values": [1.0, math.inf]}], "expected finite numbers"),
    ],
)
def test_what_is_no_space_is_refused(space, message):
    config = config_of()
    config["search"]["space"] = space
    with pytest.raises(ValueError, match=message) as caught:
        space_of(config)
    assert "Received" in str(caught.value) and "\n" not in str(caught.value)


def test_an_objective_of_ones_own_needs_a_space():
    config = config_of()
    config["objective"] = {"name": "mine"}
    with pytest.raises(ValueError, match=r"'mine' has no space of its own: expected search.space"):
        space_of(config)
