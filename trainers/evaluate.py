"""Evaluates a classifier: `tfrobust evaluate --workdir=DIR`, or `--model=FILE --data=NAME --eps=...`.

Exits with 3, after everything is written, if a gate fails: `--fail-on-alarm`, `--min_robust_accuracy=`,
`--not_worse_than=FILE.json`. The same command resumes an evaluation that was killed. With `--shard=K/N` it evaluates
one of N parts of the images, and `--merge` then writes the report of them all.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from commands import cli, imports
from commands.paper import beside_paper
from commands.workdir import Workdir, data_of
from trainers import parts

if TYPE_CHECKING:
    from tfrobust.evaluation import Report

DEFAULTS = {"attacks": "quick", "norm": "linf", "seed": 0}  # for options that neither the flags nor the config set


def define_flags() -> None:
    """Defines the flags of the command."""
    cli.define_classifier_flags()
    flags.DEFINE_string("source", None, "The .keras file that a shipped --model was made of: attacks follow it.")
    flags.DEFINE_string(
        "attacks", None, "Suite, or names of attacks with commas; default: the run's; quick or shipped."
    )
    flags.DEFINE_string("output", None, "Where the report is written, FILE.json; default: the run's evaluation.json.")
    flags.DEFINE_integer("draws", None, "Passes that vote on each prediction, for a random classifier.", lower_bound=1)
    flags.DEFINE_string("straight_through", None, "Layers, with commas, that gradients pass unchanged: rounding, say.")
    flags.DEFINE_string("shard", None, "K/N: evaluates the K-th of N parts alone; auto: by the workers of TF_CONFIG.")
    flags.DEFINE_bool("merge", False, "Write the report of all parts that --shard has evaluated.")
    flags.DEFINE_integer("batch_size", None, "Images in a batch; changes no figure.", lower_bound=1)
    flags.DEFINE_integer("probes", None, "Number of images on which the alarms' probes run; 0: none.", lower_bound=0)
    flags.DEFINE_bool("fail_on_alarm", False, "Gate: no alarm of the checks that were made (fewer with --probes=0).")
    flags.DEFINE_alias("fail-on-alarm", "fail_on_alarm")
    cli.define_number("min_robust_accuracy", None, "Gate: robust accuracy, a fraction.", lower_bound=0, upper_bound=1)
    flags.DEFINE_string("not_worse_than", None, "Gate: not significantly worse than this report, on the same images.")


def evaluate_workdir(
    workdir: Workdir,
    output: str | Path | None = None,
    *,
    split: str = "test",
    images: int | None = None,
    other: Report | None = None,
    merge: bool = False,
    **options: Any,
) -> Report:
    """Evaluates a run's classifier on one split of its data and writes the report, as JSON and as a page.

    With the option `shard` only the state of that part is written.

    Args:
        workdir: a run's folder.
        output: file of the report; None: the run's own `evaluation.json`.
        split: split of the data; figures to publish come from "test".
        images: number of first images; None: all.
        other: a report that this one will be compared with; it is checked before the evaluation.
        merge: whether to read the states of all parts.
        **options: options of `tfrobust.evaluate`; `eps` and `norm` default to those of the run's own evaluation.
    """
    config = workdir.read_config()
    classifier = cli.load_classifier(workdir.classifier)

    import tfrobust
    from commands.build import given, load_data

    own = {**DEFAULTS, **given(config["evaluation"])}
    own["attacks"] = own["attacks"] or DEFAULTS["attacks"]  # empty in a run without its own evaluation
    options = {**own, **options}
    if "eps" not in options:
        raise cli.Misuse(f"Expected --eps: the run has no radius of its own. Received: {options}")
    differs = images is not None or {k: v for k, v in options.items() if k not in ("batch_size", "shard")} != own
    if output is None and differs and workdir.evaluation.exists():
        raise cli.Mistake(
            f"{workdir.evaluation} is the report of the run's own evaluation: expected --output=FILE for another. "
            f"Received: {options} where the run's is {own}" + (f", and {images} images" if images is not None else "")
        )
    info = tfrobust.data.info(**data_of(config))
    output = output or workdir.evaluation
    return _evaluate(classifier, load_data(config, split), info, output, split, images, other, merge, **options)


def evaluate_model(
    model: str | Path, data: str, output: str | Path | None = None, source: str | Path | None = None, **options: Any
) -> Report:
    """Evaluates the classifier of a file on the test split of a data set; see `evaluate_workdir`.

    The file is a .keras file or what `tfrobust.classifiers.open` takes; `source` is the .keras file that a shipped one
    was made of. Without `output` the report is not written.
    """
    classifier = cli.load_classifier(model, source)
    import tfrobust

    info, test = tfrobust.data.info(data), tfrobust.data.load(data, "test")
    defaults = {**DEFAULTS, "attacks": None}  # the suite depends on the classifier
    return _evaluate(classifier, test, info, output, **{**defaults, **options})


def _evaluate(
    classifier: Any,
    data: Any,
    info: Any,
    output: str | Path | None,
    split: str = "test",
    images: int | None = None,
    other: Report | None = None,
    merge: bool = False,
    **options: Any,
) -> Report:
    """Evaluates, writes the report and its page, and removes the states from which a killed evaluation resumes."""
    import tfrobust
    from commands.build import first_images

    if output is not None:
        imports.need(*imports.PAGE)
    notes: tuple[str, ...] = ()
    if split != "test":
        notes += (f"The images are of the {split} split: figures to publish come from the test split.",)
    if info.skipped:
        named = ", ".join(info.skipped[:3]) + (", ..." if len(info.skipped) > 3 else "")
        notes += (f"Image files that cannot be decoded and were left out: {len(info.skipped)} ({named}).",)
    if images is not None and images < info.sizes[split]:
        data = first_images(data, images)
        notes += (f"Only the first {images} of {info.sizes[split]} images of the {split} split were evaluated.",)
    if other is not None:
        _check_comparable(other, data, options)
    if output is None:
        report = tfrobust.evaluate(classifier, data, **options)
        return dataclasses.replace(report, notes=(*notes, *report.notes))
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    if shard := options.get("shard"):
        options["probes"] = 0  # alarms are those of the whole
    states = parts.states_of(output) if merge else [parts.state_of(output, shard)]
    report = tfrobust.evaluate(classifier, data, state=states if merge else states[0], **options)
    report = dataclasses.replace(report, notes=(*notes, *report.notes))
    if shard:
        return report
    report.save(output)
    names = info.class_names if len(info.class_names) == report.classes else None
    report.save_html(output.with_suffix(".html"), names)
    for state in states:
        for file in (state, state.with_name(f"{state.name}-journal")):  # SQLite's journal may remain after a kill
            file.unlink(missing_ok=True)
    return report


def _check_comparable(other: Report, data: Any, options: Mapping[str, Any]) -> None:
    """Checks, before the evaluation, that its report can be compared with another one."""
    from commands import gates
    from commands.build import arrays_of
    from tfrobust.evaluation import Images

    gates.check_comparable(other, eps=options["eps"], norm=options["norm"])
    gates.check_same_images(Images(*arrays_of(data)), gates.adversaries_of(other))


def _gradients(text: str) -> Any:
    """Returns the oracle that passes the layers that the text lists."""
    layers = [name.strip() for name in text.split(",")]
    if not all(layers):
        raise cli.Misuse(f"Expected --straight_through=LAYER,LAYER. Received: --straight_through={text}")
    import tfrobust

    return tfrobust.attacks.straight_through(layers)


def _check_flags(given: Any) -> None:
    """Checks the combination of the flags."""
    cli.check_one_of(workdir=given.workdir, model=given.model)
    if given.model and (not given.data or given.eps is None):
        received = f"--data={given.data}, --eps={given.eps}"
        raise cli.Misuse(f"Expected --data and --eps beside --model. Received: {received}")
    if given.source and not (given.model and cli.is_shipped(given.model)):
        raise cli.Misuse(f"Expected --source beside a --model of another format. Received: --model={given.model}")
    if given.output and Path(given.output).suffix in (".html", ".npz", ".state"):
        raise cli.Misuse(f"Expected --output=FILE.json: the page stands beside it. Received: --output={given.output}")
    if (given.shard or given.merge) and given.model and not given.output:
        raise cli.Misuse("Expected --output=FILE.json, beside which parts have their states. Received: none")
    gates = given.fail_on_alarm or given.min_robust_accuracy is not None or given.not_worse_than
    if given.shard and (given.merge or given.probes or gates):
        raise cli.Misuse(
            "Expected --merge, --probes and gates after all parts are evaluated. Received: --shard as well"
        )
    if given.not_worse_than and not Path(given.not_worse_than).is_file():
        raise FileNotFoundError(f"Expected --not_worse_than=FILE.json, a report. Received: {given.not_worse_than}")


def main(_: list[str]) -> int:
    """Evaluates the classifier that the flags name, prints the report and returns the exit code."""
    given = flags.FLAGS
    _check_flags(given)
    paper: Mapping[str, float] = {}
    if given.workdir:
        workdir = Workdir(given.workdir)
        paper = workdir.read_config().get("paper", {})
    else:
        for file in filter(None, (given.model, given.source)):
            cli.check_classifier_file(file)
    imports.load_beside(workdir.classifier if given.workdir else given.model)  # it may register attacks
    from commands import gates
    from tfrobust.evaluation import Report

    other = Report.load(given.not_worse_than) if given.not_worse_than else None
    options = {"output": given.output, "images": given.images, "other": other}
    for name in ("eps", "norm", "attacks", "seed", "draws", "batch_size", "probes"):
        if (value := given[name].value) is not None:
            options[name] = value
    if given.shard:
        options["shard"] = parts.parse(given.shard)
    if given.merge:
        options["merge"] = True
    if given.straight_through:
        options["gradients"] = _gradients(given.straight_through)
    if given.workdir:
        report = evaluate_workdir(workdir, **options)
    else:
        report = evaluate_model(given.model, given.data, source=given.source, **options)
    print(beside_paper(report, paper), end="")
    print(report)
    comparison = None
    if other is not None:
        comparison = gates.compare(report, other)
        print(f"{given.not_worse_than}: {comparison}")
    failed = gates.failures(
        report, fail_on_alarm=given.fail_on_alarm, min_robust_accuracy=given.min_robust_accuracy, comparison=comparison
    )
    for line in failed:
        print(line, file=sys.stderr)
    return cli.GATE_FAILED if failed else 0


if __name__ == "__main__":
    cli.run(main, define_flags)
