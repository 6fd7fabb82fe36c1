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
BEFORE = """\
Two small networks learn scikit-learn's 1797 handwritten digits, one plainly and one against an attack, and both are
attacked. It takes two to seven minutes on 2 cores; a line says when each training ends. A run that is stopped goes on
from its last epoch when the command is given again."""


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("workdir", "runs/quickstart", "Folder of the two runs.")


def main(_: list[str]) -> None:
    """Trains both networks and prints their accuracies."""
    started = time.monotonic()
    root = Path(flags.FLAGS.workdir)
    print(BEFORE)
    reports = {}
    for number, (name, row) in enumerate(ROWS.items(), 1):
        print(f"\nNetwork {number} of {len(ROWS)}, {name}: train, attack, export (objective {row!r})", flush=True)
        report = run(digits.get_config(row).to_dict(), root / name)
        assert report is not None  # the config asks for an evaluation
        reports[name] = report
    from tfrobust.utils.text import duration

    print(f"\nHandwritten digits, test split; pixels may change by {reports['robust'].eps:g} of their range")
    print(f"{'classifier':12s}{'clean':>10s}{'under attack':>16s}")
    for name, report in reports.items():
        print(f"{name:12s}{100 * report.clean_accuracy:9.1f}%{100 * report.robust_accuracy:15.1f}%")
    attacks = (
        f"{record.name} ({record.settings['steps']} steps, random starts: {record.settings['restarts']})"
        for record in reports["robust"].attacks
    )
    print(f"Under attack: still right after {' and after '.join(attacks)}")
    page = (root / "robust" / "evaluation.html").resolve()
    print(
        f"\nAll of it took {duration(time.monotonic() - started)}. Open the report of the robust network:\n"
        f"  {page.as_uri()}\n"
        f"Beside it, in {root}/robust: classifier.keras, saved_model/1, evaluation.json, history.csv"
    )
    print(
        "\nTry next:\n"
        "  .venv/bin/tfrobust train --config=digits:trades --workdir=runs/trades\n"
        "  .venv/bin/tfrobust train --config.attack.eps=0.1 --workdir=runs/eps01\n"
        f"  .venv/bin/tfrobust evaluate --workdir={root}/robust --eps=0.2 --output=runs/eps02.json\n"
        "  README.md: bring your own Keras model and data"
    )


if __name__ == "__main__":
    cli.run(main, define_flags)
