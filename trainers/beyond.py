"""Measures a classifier beyond one ball: tables of corruptions, shifts, noise, transfer and distances.

`python -m trainers.beyond --workdir=DIR` measures the tables that the run's config asks for and prints the paper's
figures beside them; `--config=FILE.py:ROW` asks for those of another table. Without a run it is
`--model=FILE.keras --data=NAME --kind=corruptions,shifts,noise`. Transfer needs `--source=NAME=FILE.keras`, as often as
there are sources; `--target=NAME=FILE.keras` adds classifiers that are tested on their adversaries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from commands import cli
from commands.paper import beside

if TYPE_CHECKING:
    from tfrobust.evaluation import Table

KINDS = ("corruptions", "shifts", "noise", "transfer", "distances")


@dataclasses.dataclass
class Subject:
    """The classifier that is measured, with its data and options.

    Args:
        name: name of the classifier.
        classifier: the classifier.
        data: its test split.
        data_name: name of the data set if the images are its own, unchanged; else None.
        options: those of eps, norm and seed that were given.
        sources: name -> classifier on which transferred adversaries are made.
        targets: name -> other classifier that is tested on them.
        attacks: label -> attack, in place of the config's; None: the config's.
        pixels: distance of shifts, in place of the config's.
    """

    name: str
    classifier: Any
    data: Any
    data_name: str | None
    options: dict[str, Any]
    sources: dict[str, Any] = dataclasses.field(default_factory=dict)
    targets: dict[str, Any] = dataclasses.field(default_factory=dict)
    attacks: Any = None
    pixels: int | None = None


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("workdir", None, "Folder of a run of trainers.train.")
    config_flags.DEFINE_config_file(
        "config", None, "FILE.py or FILE.py:ROW whose tables are measured, beside --workdir."
    )
    flags.DEFINE_string("model", None, "A .keras file, in place of --workdir.")
    flags.DEFINE_string("data", None, "Data set, beside --model; its test split is read.")
    flags.DEFINE_list("kind", None, f"Of {', '.join(KINDS)}, with commas; default: those of the config.")
    flags.DEFINE_multi_string("source", [], "NAME=FILE.keras: a classifier on which transferred adversaries are made.")
    flags.DEFINE_multi_string("target", [], "NAME=FILE.keras: another classifier that is tested on them.")
    flags.DEFINE_list("attacks", None, "Names of attacks, with commas, on shifted images and on sources.")
    flags.DEFINE_float("eps", None, "Radius as a fraction of the pixel range; default: the run's.")
    flags.DEFINE_string("norm", None, "linf or l2; default: the run's, else linf.")
    flags.DEFINE_integer("pixels", None, "How far images are shifted; default: the config's, else 8.", lower_bound=1)
    flags.DEFINE_integer("images", None, "How many of the test split's first images; default: all.", lower_bound=1)
    flags.DEFINE_integer("seed", None, "Of the random numbers; default: the run's, else 0.")
    flags.DEFINE_string("output", None, "Folder of the tables, KIND.json; default: the run's tables/.")


def measure(kind: str, subject: Subject, settings: Mapping[str, Any]) -> Table:
    """Returns one table.

    Args:
        kind: a name of `KINDS`.
        subject: the classifier, its data and options.
        settings: settings of the kind, from the field `tables` of a config.
    """
    from tfrobust import evaluation

    options = {"seed": subject.options.get("seed", 0)}
    ball = {key: subject.options[key] for key in ("eps", "norm") if key in subject.options}
    given = dict(settings)
    attacks = subject.attacks if subject.attacks is not None else given.pop("attacks", None)
    if kind == "corruptions":
        return evaluation.corruptions(subject.classifier, subject.data_name or subject.data, **given, **options)
    if kind == "noise":
        if "norm" in ball:
            options["norm"] = ball["norm"]
        return evaluation.noise(subject.classifier, subject.data, **given, **options)
    if kind == "shifts":
        given.update({"pixels": subject.pixels} if subject.pixels else {})
        return evaluation.shifts(subject.classifier, subject.data, attack=attacks or None, **given, **ball, **options)
    if kind == "transfer":
        given.pop("sources", None)
        targets = {subject.name: subject.classifier, **subject.targets}
        return evaluation.transfer_table(
            subject.sources, targets, subject.data, attacks, **{"norm": "linf", **ball}, **given, **options
        )
    tables = {
        group: evaluation.distances({subject.name: subject.classifier}, subject.data, members, **ball, **options)
        for group, members in given["groups"].items()
    }
    return _stacked(tables)


def labels(tables: Mapping[str, Any]) -> list[str]:
    """Returns the labels of the figures of a config's tables, as its field `paper` has them."""
    return [label for kind, settings in tables.items() if kind in LABELS for label in LABELS[kind](settings)]


def _labels_of_shifts(settings: Mapping[str, Any]) -> list[str]:
    from commands.config import DIRECTIONS

    columns = ("clean", *settings.get("attacks", {}))
    return [f"shifted {direction} {column}" for direction in DIRECTIONS for column in columns]


def _labels_of_transfer(settings: Mapping[str, Any]) -> list[str]:
    return ["random noise", *(f"{source} {label}" for source in settings["sources"] for label in settings["attacks"])]


def _labels_of_distances(settings: Mapping[str, Any]) -> list[str]:
    return [f"{group} {label}" for group, members in settings["groups"].items() for label in [*members][1:]]


LABELS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "shifts": _labels_of_shifts,
    "corruptions": lambda settings: [f"{kind} mean" for kind in settings["kinds"]],
    "transfer": _labels_of_transfer,
    "distances": _labels_of_distances,
}


def figures(table: Table, name: str) -> dict[str, float | None]:
    """Returns the figures by their labels; in a table with a column for each classifier, only those of `name`."""
    if name in table.columns:
        return {row: table[row, name] for row in table.rows}
    return table.flat()


def _stacked(tables: Mapping[str, Table]) -> Table:
    first = next(iter(tables.values()))
    return dataclasses.replace(
        first,
        title="distance from each group's first attack",
        rows=tuple(f"{group} {row}" for group, table in tables.items() for row in table.rows),
        figures=tuple(row for table in tables.values() for row in table.figures),
        settings={group: table.settings for group, table in tables.items()},
    )


def _pairs(flag: str, given: Sequence[str]) -> dict[str, Path]:
    """Returns NAME -> FILE of a flag."""
    pairs = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not (name and separator and path) or name in pairs:
            raise cli.Misuse(f"Expected --{flag}=NAME=FILE.keras, each name once. Received: --{flag}={text}")
        cli.check_classifier_file(path)
        pairs[name] = Path(path)
    return pairs


def _kinds(given: Sequence[str] | None, tables: Mapping[str, Any]) -> list[str]:
    for kind in given or ():
        if kind not in KINDS:
            raise cli.Misuse(f"Expected --kind of {', '.join(KINDS)}. Received: --kind={kind}")
    if "distances" in (given or ()) and "distances" not in tables:
        raise cli.Misuse("--kind=distances needs a config that has them, such as infofeature_t2.py. Received: none")
    kinds = list(given or tables)
    if not kinds:
        raise cli.Misuse(f"Expected --kind of {', '.join(KINDS)}: the config has no tables. Received: none")
    return kinds


def main(_: list[str]) -> None:
    """Measures the tables that the flags and the config name, and prints and saves them."""
    given = flags.FLAGS
    cli.check_one_of(workdir=given.workdir, model=given.model)
    if given.model and (not given.data or given.config):
        raise cli.Misuse(f"Expected --data beside --model, and no --config. Received: --data={given.data}")
    sources, targets = _pairs("source", given.source), _pairs("target", given.target)
    config, path, output = None, Path(given.model or ""), given.output
    if given.workdir:
        from commands.workdir import Workdir

        workdir = Workdir(given.workdir)
        config, path, output = workdir.read_config(), workdir.classifier, output or workdir.path / "tables"
    asked = given.config.to_dict() if given.config else config or {}
    tables, paper = asked.get("tables", {}), asked.get("paper", {})
    kinds = _kinds(given.kind, tables)
    if "transfer" in kinds and (missing := _missing(tables.get("transfer", {}), sources)):
        if given.kind:
            raise cli.Misuse(f"Transfer needs {missing}. Received: {', '.join(sources) or 'no --source'}")
        print(f"Transfer is left out: it needs {missing}.", flush=True)
        kinds.remove("transfer")
    options = {name: getattr(given, name) for name in ("eps", "norm", "seed") if getattr(given, name) is not None}
    of_run = {
        key: value for key, value in asked.get("evaluation", {}).items() if key in ("eps", "norm", "seed") and value
    }
    options = {**of_run, **options}
    attacks = {name: name for name in given.attacks} if given.attacks else None
    if "transfer" in kinds and ("eps" not in options or not (attacks or tables.get("transfer"))):
        raise cli.Misuse(f"Transfer needs --eps and --attacks. Received: --eps={given.eps}, --attacks={given.attacks}")
    if "shifts" in kinds and attacks and "eps" not in options:
        raise cli.Misuse("Attacks on shifted images need --eps. Received: --attacks alone")

    subject = Subject(path.stem, cli.load_classifier(path), *_data(config, given.data, given.images), options)
    subject.sources = {name: cli.load_classifier(file) for name, file in sources.items()}
    if Path(targets.get(subject.name, path)).resolve() != path.resolve():
        raise cli.Misuse(f"--target={subject.name}=... has the name of the classifier itself: expected another name.")
    subject.targets = {name: cli.load_classifier(file) for name, file in targets.items()}
    subject.attacks, subject.pixels = attacks, given.pixels
    for kind in kinds:
        table = measure(kind, subject, tables.get(kind, {}))
        print(f"\n{table}")
        found = figures(table, subject.name)
        known = {label: figure for label, figure in paper.items() if label in found}
        print(beside(found, known, percent=kind != "distances"), end="")
        if output:
            table.save(Path(output) / f"{kind}.json")


def _missing(settings: Mapping[str, Any], sources: Mapping[str, Any]) -> str | None:
    """Returns the sources that a transfer table still needs, in words; None if it needs none."""
    named = settings.get("sources") or ({} if sources else {"NAME": "the classifier that is attacked"})
    missing = {name: what for name, what in named.items() if name not in sources}
    return ", ".join(f'--source="{name}=FILE.keras" ({what})' for name, what in missing.items()) or None


def _data(config: Mapping[str, Any] | None, name: str, images: int | None) -> tuple[Any, str | None]:
    """Returns the test split, and the data set's name if stored corruptions of it have the same images."""
    import tfrobust
    from commands.build import first_images, load_data

    resized = config is not None and config["data"].get("image_size")
    data = load_data(config, "test") if config is not None else tfrobust.data.load(name, "test")
    if images is not None:
        data = first_images(data, images)
    same = None if resized or images is not None else (config["data"]["name"] if config is not None else name)
    return data, same


if __name__ == "__main__":
    cli.run(main, define_flags)
