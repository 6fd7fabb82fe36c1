"""Measure a classifier: `python -m trainers.evaluate --workdir=DIR`, or `--model=FILE --data=NAME --eps=...`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl import flags

from trainers import _cli

if TYPE_CHECKING:
    from tfrobust.evaluation import Report
    from trainers.workdir import Workdir

if __name__ == "__main__":
    FOLDER = flags.DEFINE_string("workdir", None, "Folder of a run of trainers.train.")
    MODEL = flags.DEFINE_string("model", None, "A .keras file, in place of --workdir.")
    DATA = flags.DEFINE_string("data", None, "Data set, beside --model; its test split is read.")
    ATTACKS = flags.DEFINE_string("attacks", "quick", "Suite of attacks.")
    EPS = flags.DEFINE_float("eps", None, "Radius as a fraction of the pixel range; default: the run's.")
    NORM = flags.DEFINE_string("norm", None, "linf or l2; default: the run's, else linf.")
    OUTPUT = flags.DEFINE_string("output", None, "Where the report is written; default: the run's evaluation.json.")
    SEED = flags.DEFINE_integer("seed", 0, "Of the random starts.")


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
    from trainers.setup import load_data

    options = {**(config["evaluation"] or {}), **options}
    if "eps" not in options:
        raise ValueError("This run's config has no evaluation: expected --eps. Received: none")
    report = tfrobust.evaluate(classifier, load_data(config, "test"), **options)
    report.save(output or workdir.evaluation)
    return report


def main(_: list[str]) -> None:
    if bool(FOLDER.value) == bool(MODEL.value):
        received = "both" if MODEL.value else "neither"
        raise _cli.Misuse(f"Expected one of --workdir=DIR and --model=FILE. Received: {received}")
    given = {"eps": EPS.value, "norm": NORM.value}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    options |= {"attacks": ATTACKS.value, "seed": SEED.value}
    if FOLDER.value:
        from trainers.workdir import Workdir

        report = evaluate_workdir(Workdir(FOLDER.value), OUTPUT.value, **options)
    else:
        if not DATA.value or EPS.value is None:
            received = f"--data={DATA.value}, --eps={EPS.value}"
            raise _cli.Misuse(f"Expected --data and --eps beside --model. Received: {received}")
        classifier = _cli.load_classifier(MODEL.value or "")
        import tfrobust

        report = tfrobust.evaluate(classifier, tfrobust.data.load(DATA.value, "test"), **options)
        if OUTPUT.value:
            report.save(OUTPUT.value)
    print(report)


if __name__ == "__main__":
    _cli.run(main)
