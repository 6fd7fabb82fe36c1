"""Studies what networks rely on: `tfrobust interpret --workdir=DIR [--workdir=DIR ...]`, side by side.

Writes one page, FILE.html, and its numbers, FILE.json, and prints the papers' figures of the gradient-map test beside
the measured ones. The runs have to be of the same data; the first one says which images, and the default radius.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from commands import cli, imports
from commands.paper import beside_found
from commands.workdir import Workdir, data_of

if TYPE_CHECKING:
    from tfrobust.interpret import Study

IMAGES = 1000  # default number of images of each split


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_multi_string("workdir", None, "Folder of a run of `tfrobust train`; as often as there are such.")
    flags.DEFINE_string("judge", None, "Run whose classifier labels gradient maps; default: the first `standard` one.")
    cli.define_number("eps", None, "Radius as a fraction of the pixel range; default: the first run's evaluation's.")
    flags.DEFINE_string("norm", None, "linf or l2; default: the first run's evaluation's, else linf.")
    flags.DEFINE_integer("images", IMAGES, "Number of each split's first images.", lower_bound=2)
    flags.DEFINE_list("sections", None, "Sections of tfrobust.interpret.study, with commas; default: all.")
    flags.DEFINE_multi_float("signs", None, "Raw |G| above which signs are painted; as often as there are thresholds.")
    flags.DEFINE_string("output", None, "FILE.html; default: interpretation.html in the first run's folder.")
    flags.DEFINE_string("pictures", None, "Folder for each figure as SECTION-N.svg too.")
    flags.DEFINE_integer("seed", 0, "Seed of random starts, bootstrap, permutations and t-SNE.")


def interpret_workdirs(
    workdirs: Sequence[Workdir], judge: Workdir | None = None, images: int = IMAGES, **options: Any
) -> Study:
    """Returns the study of the runs' classifiers on the first images of the first run's data.

    Args:
        workdirs: folders of the runs, which are of the same data.
        judge: a run whose classifier labels gradient maps; None: the first of `workdirs` with the objective `standard`.
        images: greatest number of images of the splits train and test.
        **options: options of `tfrobust.interpret.study`; `eps` and `norm` default to the first run's evaluation.
    """
    configs = [workdir.read_config() for workdir in workdirs]
    data = data_of(configs[0])
    if others := [(w.path, c["data"]["name"]) for w, c in zip(workdirs, configs, strict=True) if data_of(c) != data]:
        raise cli.Mistake(
            f"Expected runs of the same data as {workdirs[0].path}, {data['name']!r}, split and resized alike. "
            f"Received: {others[0][0]}, of {others[0][1]!r}"
        )
    plain = (w for w, c in zip(workdirs, configs, strict=True) if c["objective"].get("name") == "standard")
    judge = judge or next(plain, None)
    names = [workdir.path.name for workdir in workdirs]
    if len(set(names)) < len(names):
        names = [str(workdir.path) for workdir in workdirs]
    classifiers = {name: cli.load_classifier(w.classifier) for name, w in zip(names, workdirs, strict=True)}

    import tfrobust
    from commands.build import first_images, given

    imports.need(*imports.PAGE, "matplotlib.colors", "sklearn.manifold")

    own = {key: value for key, value in given(configs[0]["evaluation"]).items() if key in ("eps", "norm")}
    options = {**own, **given(options)}
    if "eps" not in options:
        raise cli.Misuse(f"Expected --eps: the run {workdirs[0].path} has no radius of its own. Received: none")
    info = tfrobust.data.info(**data)
    train, test = (
        first_images(tfrobust.data.load(split=split, shuffle=False, **data), images) for split in ("train", "test")
    )
    found = tfrobust.interpret.study(
        classifiers,
        test,
        train=train,
        judge=None if judge is None else cli.load_classifier(judge.classifier),
        class_names=info.class_names,
        **options,
    )
    found.settings |= {
        "data": data["name"],
        "runs": [str(workdir.path) for workdir in workdirs],
        "judge": None if judge is None else str(judge.path),
    }
    return found


def figures(study: Study, name: str) -> dict[str, float]:
    """Returns a classifier's figures in the gradient-map test by their labels, those of `config.GRADIENT_MAPS`."""
    return {
        f"gradient maps {split} {form}": accuracy
        for split, table in study.numbers.get("gradient_map_test", {}).items()
        for form, accuracy in table["figures"][name].items()
    }


def main(_: list[str]) -> None:
    """Studies the runs that the flags name, writes the page, prints the papers' figures beside its own and its path."""
    given = flags.FLAGS
    if not given.workdir:
        raise cli.Misuse("Expected --workdir=DIR, as often as there are classifiers. Received: none")
    if len(set(given.workdir)) < len(given.workdir):
        raise cli.Misuse(f"Expected different runs. Received: {', '.join(given.workdir)}")
    if given.output and Path(given.output).suffix != ".html":
        raise cli.Misuse(f"Expected --output=FILE.html: the numbers stand beside it. Received: {given.output}")
    workdirs = [Workdir(path) for path in given.workdir]
    judge = Workdir(given.judge) if given.judge else None
    for workdir in [*workdirs, *([judge] if judge else [])]:
        cli.check_classifier_file(workdir.classifier)
    options = {name: given[name].value for name in ("eps", "norm", "sections", "seed", "signs")}
    output = Path(given.output) if given.output else workdirs[0].path / "interpretation.html"
    study = interpret_workdirs(workdirs, judge, given.images, **options)
    study.save(output)
    if given.pictures:
        study.save_pictures(given.pictures)
    for workdir, name in zip(workdirs, study.settings["classifiers"], strict=True):
        if table := beside_found(figures(study, name), workdir.read_config().get("paper", {})):
            print(f"{name}\n{table}", end="")
    print(output)


if __name__ == "__main__":
    cli.run(main, define_flags)
