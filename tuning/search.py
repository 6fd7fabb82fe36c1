"""Search the trade-off weights of a config: `tfrobust search --config=FILE.py[:ROW] --workdir=DIR`.

Each trial is a run of `tfrobust train` in a folder of its own. The same command resumes a search that was killed, with
the trials and the winner of an undisturbed one.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from commands import cli, imports
from commands.config import FIELDS
from commands.config_flag import chosen_config, define_config
from commands.workdir import Workdir
from trainers import train as _train
from tuning import launcher

if TYPE_CHECKING:
    from tuning.outcome import Outcome
    from tuning.runner import Progress
    from tuning.spaces import Dimension

CONFIGS = Path(__file__).parent / "configs"


def define_flags() -> None:
    """Defines the flags of the command."""
    define_config("digits", CONFIGS, _train.CONFIGS)
    flags.DEFINE_string("workdir", "runs/search", "Folder of the search; made if it is missing.")
    flags.DEFINE_integer("workers", 1, "Processes of this machine that run trials at the same time.", lower_bound=1)


def search(
    config: Mapping[str, Any],
    path: str | Path,
    train: Callable[..., Any] | None = None,
    say: Callable[[str], None] = print,
    workers: Sequence[Sequence[str]] = (),
) -> Outcome | None:
    """Runs the search of a config, or the rest of it, and writes and returns its outcome; returns None in a worker.

    Args:
        config: a config of `tfrobust train`, as a plain dict; its field `search` describes the search.
        path: folder of the search.
        train: function `(config, path, callbacks)` that trains a config in a folder; None: `trainers.train.fit`.
        say: receives each line of progress.
        workers: commands that make this same call, each started in a process of its own to run trials while this one
            draws them; empty: this process does both.

    Raises:
        InvalidArgument: if the description of the search is invalid, or no trial meets the constraint.
        Mistake: if the folder is of another search.
        ConnectionError: in a worker that has lost its chief.
        ChildProcessError: if a worker ends with an error.
    """
    role = launcher.role(os.environ)
    if role == launcher.WORKER:
        launcher.end_with_launcher()
    imports.need(*imports.PAGE, "tensorboard.plugins.hparams.api")
    from tfrobust.utils.errors import InvalidArgument
    from tfrobust.utils.files import sweep
    from tuning import aims, conclusion, spaces, tuners
    from tuning.runner import Progress, Runner, fit, told
    from tuning.trials import Store

    check(config)
    config = {**config, "imports": imports.used(config)}
    path, options = Path(path), config["search"]
    aim = aims.aim_of(options)
    space = spaces.space_of(config)
    plan = tuners.get(options["tuner"], space, config["seed"], options["trials"], config["epochs"])
    check_ball(config, space)
    if plan.goes_on and config["phases"]:
        raise InvalidArgument(
            f"Trials of {options['tuner']!r} go on with more epochs: expected no phases. Received: some"
        )
    store = Store(path / "trials")
    with tempfile.TemporaryDirectory() as scratch:
        runner_of = functools.partial(Runner, config, space, plan, store, aim, train or fit, scratch)
        if role == launcher.WORKER:
            _work(runner_of(lambda trial, result: say(told(trial, result))), config, path)
            return None
        Workdir(path).claim(_fixed(config))
        sweep(path / "trials")
        progress = Progress(plan, store, say)
        wholes = f"{plan.epochs / config['epochs']:.3g} whole trainings"
        say(f"{plan.trials} trials of {', '.join(d.field for d in space)}, as long as {wholes}")
        runner = runner_of(progress.tell)
        if role == launcher.CHIEF or workers:
            _lead(runner.oracle, workers, path / "logs", progress, say)
        else:
            _run(runner)
    return conclusion.conclude(config, path, store, aim, say)


def _run(runner: Any) -> None:
    """Runs the trials that this process gets."""
    from keras_tuner import errors

    try:
        runner.search()
    except errors.FatalError as error:
        raise (error.__cause__ or error) from None


def _work(runner: Any, config: Mapping[str, Any], path: Path) -> None:
    """Runs trials that a chief in another process draws."""
    import grpc

    try:
        runner.oracle.get_space()  # waits for the chief, which creates the folder
        Workdir(path).check(_fixed(config))  # every machine needs the same command and the shared folder
        _run(runner)
    except grpc.RpcError as error:
        raise ConnectionError(
            f"Lost the chief: start the same command on every machine again, the search goes on. Received: {error}"
        ) from error


def _lead(
    oracle: Any, workers: Sequence[Sequence[str]], logs: Path, progress: Progress, say: Callable[[str], None]
) -> None:
    """Draws trials for the workers, started here or elsewhere, until there are no more."""
    host, port = os.environ.get(launcher.HOST, "127.0.0.1"), int(os.environ.get(launcher.PORT, 0))
    with (
        launcher.serving(oracle, host, port) as (port, all_sent_home),
        launcher.Workers(workers, host, port, logs, say) as crew,
    ):
        while not (crew.over() and all_sent_home()):
            progress.catch_up()
            time.sleep(launcher.PAUSE)
    progress.catch_up()


def check(config: Mapping[str, Any]) -> None:
    """Checks a search's numbers, validation data and attack before any training."""
    from commands.build import check_evaluation, phases_of
    from tfrobust.utils.errors import InvalidArgument
    from tfrobust.utils.validation import check_integer
    from tuning import outcome

    last = phases_of(config)[-1]
    options, fields = config["search"], FIELDS["search"]
    if wrong := sorted(set(options) ^ set(fields)):
        raise InvalidArgument(f"Invalid search: expected {', '.join(fields)}. Missing or unknown: {', '.join(wrong)}")
    for name, least in (("trials", 1), ("hopeless_after", 0), ("finalists", 0)):
        check_integer(f"search.{name}", options[name], least)
    if options["finalists"]:  # checked now, because it comes last in a search
        check_evaluation({**config, "evaluation": {**config["evaluation"], "attacks": outcome.SUITE}})
    if not config["data"]["validation"]:
        raise InvalidArgument("A search needs validation data: expected data.validation > 0. Received: 0")
    if not any(value is not None for value in last["attack"].values()):
        raise InvalidArgument("A search needs an attack, by which val_robust_accuracy is measured. Received: none")


def check_ball(config: Mapping[str, Any], space: Sequence[Dimension]) -> None:
    """Checks that no dimension changes the ball of validation: in a smaller ball every trial is more robust."""
    import tfrobust
    from commands.build import given, phases_of
    from tfrobust.utils.errors import InvalidArgument
    from tuning.spaces import with_values

    def ball(values: Mapping[str, Any]) -> tuple[Any, ...]:
        last = phases_of(with_values(config, values))[-1]
        found = tfrobust.attacks.get(given(last["attack"])).at(last["epochs"]).ball
        return type(found), round(float(found.radius), 6), found.bounds

    for dimension in space:
        if any(ball({dimension.field: value}) != ball({}) for value in dimension.ends):
            raise InvalidArgument(
                "Robust accuracies are compared in one ball: expected fields that leave the last eps, norm and bounds "
                f"of the attack as they are. Received: {dimension.field!r}"
            )


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config that a resumed search must have: `trials` and `finalists` may change."""
    fixed = {name: value for name, value in config["search"].items() if name not in ("trials", "finalists")}
    return {**config, "search": fixed}


def main(_: list[str]) -> None:
    config = chosen_config()
    workers = flags.FLAGS.workers
    command = [sys.executable, "-P", "-m", "tuning.search", *sys.argv[1:]]  # with the import path of this process
    outcome = search(config, flags.FLAGS.workdir, workers=[command] * workers if workers > 1 else ())
    if outcome is not None:
        print(outcome)


if __name__ == "__main__":
    cli.run(main, define_flags)
