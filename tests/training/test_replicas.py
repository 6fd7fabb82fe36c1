"""Two logical devices take the step of one; what differs is said in docs/distributed.md. In processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfrobust

SCRIPT = Path(__file__).parent / "replicas.py"
COUPLED = {"feature_scatter", "adv_interpolation"}  # inside their inner loss: each replica couples its own rows

# A divergence near the image is a difference of nearly equal numbers, and the search follows its gradient's direction:
# the rounding of a network in float32, which differs with the number of rows that a device has, is a thousandth of it.
# In float64 it is not; in float32 a start far from the image gives a gradient that can be compared.
NEAR = {"dtype": "float64"}
FAR = {"attack": {"start": "uniform"}}
DIVERGENCES = ("trades", "mail_trades")
SETTINGS = {
    "awp": {"objective": {"name": "awp", "objective": "madry", "gamma": 0.01}},
    "dra": {"objective": {"name": "dra", "bound": 0.1, "rate": 0.5}},
    "spat": {"head": "cosine"},
}


def case(name, **settings):
    return {"objective": name, **SETTINGS.get(name, {}), **settings}


FEW = [case("gairat", norm="linf")]
ALL = [
    *(case(name, norm="linf") for name in ("madry", "gairat")),
    case("madry", search_dtype="bfloat16"),
    *(case(name) for name in tfrobust.objectives.names() if name not in {*COUPLED, *DIVERGENCES}),
    *(case(name, **near_or_far) for name in DIVERGENCES for near_or_far in (NEAR, FAR)),
]


def run(*parts):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(json.dumps, parts)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def test_two_replicas_take_the_step_of_one_share_batches_and_refuse_what_cannot_be():
    run(*FEW, "refusals", "clipping", "shared_batches")


@pytest.mark.slow
def test_data_of_other_containers_are_the_same_batches():
    run("containers")


@pytest.mark.slow
def test_every_objective_takes_the_step_of_one():
    run(*ALL)


@pytest.mark.slow
def test_statistics_rows_resume_and_order():
    run("statistics", "averaged", "own_rows", "resumed", "order")


@pytest.mark.slow
def test_the_command_trains_by_a_registered_strategy():
    run("command")


@pytest.mark.slow
def test_keras_still_needs_help_with_uneven_first_batches():
    run("upstream")
