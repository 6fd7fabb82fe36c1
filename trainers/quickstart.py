"""Shows the library in one command, `make quickstart`.

It trains two networks on scikit-learn's handwritten digits, one plainly and one against an attack, and attacks both.
"""

from __future__ import annotations

import time
from pathlib import Path

from absl import flags

from commands import cli
from trainers.configs import digits
from trainers.train import run

ROWS = {"plain": "standard", "robust": "madry"}


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("workdir", "runs/quickstart", "Folder of the two runs.")


def main(_: list[str]) -> None:
    """Trains both networks and prints their accuracies."""
    started = time.monotonic()
    root = Path(flags.FLAGS.workdir)
    reports = {}
    for name, row in ROWS.items():
        print(f"\n== {name}: objective {row!r} ==", flush=True)
        report = run(digits.get_config(row).to_dict(), root / name)
        assert report is not None  # the config asks for an evaluation
        reports[name] = report
    print(f"\nHandwritten digits, test split; pixels may change by {reports['robust'].eps:g} of their range")
    print(f"{'classifier':12s}{'clean':>10s}{'under attack':>16s}")
    for name, report in reports.items():
        print(f"{name:12s}{100 * report.clean_accuracy:9.1f}%{100 * report.robust_accuracy:15.1f}%")
    attacks = (
        f"{record.name} ({record.settings['steps']} steps, random starts: {record.settings['restarts']})"
        for record in reports["robust"].attacks
    )
    print(f"Under attack: still right after {' and after '.join(attacks)}")
    print(
        f"{time.monotonic() - started:.0f} s. In {root}/robust: "
        "classifier.keras, saved_model/1, evaluation.json, history.csv"
    )
    print(
        "\nTry next:\n"
        "  .venv/bin/python -m trainers.train --config=trainers/configs/digits.py:trades --workdir=runs/trades\n"
        "  .venv/bin/python -m trainers.train --config.attack.eps=0.1 --workdir=runs/eps01\n"
        f"  .venv/bin/python -m trainers.evaluate --workdir={root}/robust --eps=0.2 --output=runs/eps02.json\n"
        "  README.md: bring your own Keras model and data"
    )


if __name__ == "__main__":
    cli.run(main, define_flags)
