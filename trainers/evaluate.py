"""Measure a classifier: `python -m trainers.evaluate --workdir=DIR`, or `--model=FILE --data=NAME --eps=...`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl import flags

from trainers import _cli
from trainers.paper import beside_paper

if TYPE_CHECKING:
    from tfrobust.evaluation import Report
    from trainers.workdir import Workdir


DEFAULTS = {"attacks": "quick", "norm": "linf", "seed": 0}  # of an evaluation whose config leaves them open


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("workdir", None, "Folder of a run of trainers.train.")
    flags.DEFINE_string("model", None, "A .keras file, in place of --workdir.")
    flags.DEFINE_string("data", None, "Data set, beside --model; its test split is read.")
    flags.DEFINE_string("attacks", None, "Suite of attacks; default: the run's, else quick.")
    flags.DEFINE_float("eps", None, "Radius as a fraction of the pixel range; default: the run's.")
    flags.DEFINE_string("norm", None, "linf or l2; default: the run's, else linf.")
    flags.DEFINE_string("output", None, "Where the report is written; default: the run's evaluation.json.")
    flags.DEFINE_integer("seed", 0, "Of the random starts.")


def evaluate_workdir(workdir: Workdir, output: str | None = None, **options: Any) -> Report:
    """Evaluates a run's classifier on the test split of its data and writes the report.

    Args:
        workdir: a run's folder.
        output: the report's file; None is the run's own `evaluation.json`.
        **options: of `tfrobust.evaluate`; `eps` and `norm` default to those of the run's own evaluation.
    """
    config = workdir.read_config()
    classifier = _cli.load_classifier(workdir.classifier)

    import tfrobust
    from trainers.setup import given, load_data

    own = {**DEFAULTS, **given(config["evaluation"])}
    own["attacks"] = own["attacks"] or DEFAULTS["attacks"]  # a run without an evaluation of its own
    options = {**own, **options}
    if output is None and options != own and workdir.evaluation.exists():
        raise ValueError(
            f"{workdir.evaluation} is the report of the run's own evaluation: expected --output=FILE for another. "
            f"Received: {options} where the run's is {own}"
        )
    report = tfrobust.evaluate(classifier, load_data(config, "test"), **options)
    report.save(output or workdir.evaluation)
    return report


def main(_: list[str]) -> None:
    given = flags.FLAGS
    if bool(given.workdir) == bool(given.model):
        received = "both" if given.model else "neither"
        raise _cli.Misuse(f"Expected one of --workdir=DIR and --model=FILE. Received: {received}")
    options = {"eps": given.eps, "norm": given.norm, "attacks": given.attacks, "seed": given.seed}
    options = {name: value for name, value in options.items() if value is not None}
    if given.workdir:
        from trainers.workdir import Workdir

        workdir = Workdir(given.workdir)
        report = evaluate_workdir(workdir, given.output, **options)
        print(beside_paper(report, workdir.read_config().get("paper", {})), end="")
    else:
        if not given.data or given.eps is None:
            received = f"--data={given.data}, --eps={given.eps}"
            raise _cli.Misuse(f"Expected --data and --eps beside --model. Received: {received}")
        classifier = _cli.load_classifier(given.model)
        import tfrobust

        report = tfrobust.evaluate(classifier, tfrobust.data.load(given.data, "test"), **options)
        if given.output:
            report.save(given.output)
    print(report)


if __name__ == "__main__":
    _cli.run(main, define_flags)
