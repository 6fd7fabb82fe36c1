"""Measures a classifier beyond one ball: tables of corruptions, shifts, noise, transfer and distances.

`tfrobust beyond --workdir=DIR` measures the tables that the run's config asks for and prints the paper's
figures beside them; `--config=FILE.py:ROW` asks for those of another table. Without a run it is
`--model=FILE.keras --data=NAME --kind=corruptions,shifts,noise`. Transfer needs `--source=NAME=FILE.keras`, as often as
there are sources; `--target=NAME=FILE.keras` adds classifiers that are tested on their adversaries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from commands import cli
from commands.config_flag import define_config_file
from commands.paper import beside_found
from commands.workdir import Workdir
from trainers.train import CONFIGS

if TYPE_CHECKING:
    from tfrobust.evaluation import Table

KINDS = ("corruptions", "shifts", "noise", "transfer", "distances")


@dataclasses.dataclass
class Subject:
    """The classifier that is measured, with its data and options."""

    name: str
    classifier: Any
    data: Any  # the test split
    data_name: str | None  # name of the data set if its images are measured unchanged
    options: dict[str, Any]  # those of eps, norm and seed that are known
    sources: dict[str, Any] = dataclasses.field(default_factory=dict)  # name -> classifier on which attacks are run
    targets: dict[str, Any] = dataclasses.field(default_factory=dict)  # name -> other classifier that is tested on them
    attacks: Any = None  # label -> attack, in place of the config's
    pixels: int | None = None  # distance of shifts, in place of the config's


def define_flags() -> None:
    """Defines the flags of the command."""
    cli.define_classifier_flags()
    define_config_file("Its tables are measured, beside --workdir.", CONFIGS)
    flags.DEFINE_list("kind", None, f"Of {', '.join(KINDS)}, with commas; default: those of the config.")
    flags.DEFINE_multi_string("source", [], "NAME=FILE.keras: a classifier on which transferred adversaries are made.")
    flags.DEFINE_multi_string("target", [], "NAME=FILE.keras: another classifier that is tested on them.")
    flags.DEFINE_list("attacks", None, "Names of attacks, with commas, on shifted images and on sources.")
    flags.DEFINE_integer("pixels", None, "Distance of shifts; default: the config's, else 8.", lower_bound=1)
    flags.DEFINE_string("output", None, "Folder of the tables, KIND.json; default: the run's tables/.")


def measure(kind: str, subject: Subject, settings: Mapping[str, Any]) -> Table:
    """Returns the table of a kind of `KINDS`; `settings` are those of the kind in the field `tables` of a config."""
    from tfrobust import evaluation

    classifier, data = subject.classifier, subject.data
    ball = {key: subject.options[key] for key in ("eps", "norm") if key in subject.options}
    given = {**settings, "seed": subject.options.get("seed", 0)}
    own = given.pop("attacks", None)
    attacks = own if subject.attacks is None else subject.attacks
    if kind == "corruptions":
        return evaluation.corruptions(classifier, subject.data_name or data, **given)
    if kind == "noise":
        ball.pop("eps", None)
        return evaluation.noise(classifier, data, **given, **ball)
    if kind == "shifts":
        given |= {"pixels": subject.pixels} if subject.pixels else {}
        return evaluation.shifts(classifier, data, attack=attacks or None, **given, **ball)
    if kind == "transfer":
        given.pop("sources", None)
        targets = {subject.name: classifier, **subject.targets}
        return evaluation.transfer_table(subject.sources, targets, data, attacks, **{"norm": "linf", **ball}, **given)
    groups = given.pop("groups")
    return _stacked(
        {
            group: evaluation.distances({subject.name: classifier}, data, members, **ball, **given)
            for group, members in groups.items()
        }
    )


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
    if not (given or tables):
        raise cli.Misuse(f"Expected --kind of {', '.join(KINDS)}: the config has no tables. Received: none")
    return list(given or tables)


def main(_: list[str]) -> None:
    """Measures, prints and saves the tables that the flags and the config name."""
    given = flags.FLAGS
    cli.check_one_of(workdir=given.workdir, model=given.model)
    if given.model and (not given.data or given.config):
        raise cli.Misuse(f"Expected --data beside --model, and no --config. Received: --data={given.data}")
    sources, targets = _pairs("source", given.source), _pairs("target", given.target)
    config, path, output = None, Path(given.model or ""), given.output
    if given.workdir:
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
    names = ("eps", "norm", "seed")
    options = {name: value for name in names if (value := asked.get("evaluation", {}).get(name))}
    options |= {name: value for name in names if (value := given[name].value) is not None}
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
        print(beside_found(figures(table, subject.name), paper, percent=kind != "distances"), end="")
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

    data = tfrobust.data.load(name, "test") if config is None else load_data(config, "test")
    if images is not None:
        return first_images(data, images), None
    if config is None:
        return data, name
    return data, None if config["data"].get("image_size") else config["data"]["name"]


if __name__ == "__main__":
    cli.run(main, define_flags)
