"""`tfrobust beyond`: tables of a run and of a file, what is missing, and the paper's figures beside them."""

import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from absl import flags

import tfrobust
from commands import cli
from commands import config as _base
from commands.paper import beside, best_and_worst
from commands.workdir import Workdir
from tfrobust.evaluation import Table, evaluate
from tfrobust.evaluation.tables import shifts
from trainers import beyond

ATTACKS = {"FGSM": {"name": "fgsm"}, "PGD-2": _base.pgd_column(2, 0.1)}
PAPER = {
    "clean": 99.0,
    "contrast mean": 64.0,
    "shifted left clean": 91.0,
    "shifted down FGSM": 52.0,
    "black box FGSM": 73.0,
    "black box FGSM (plain)": 74.0,
}


@pytest.fixture
def folder(tmp_path, make_small):
    """A run's folder with a classifier of digits that was never trained, and another one beside it."""
    config = _base.build(
        {"data": {"name": "digits"}, "evaluation": {"eps": 0.1, "attacks": ATTACKS}, "paper": PAPER},
        {
            "tables": {
                "corruptions": {"kinds": ("contrast",), "severities": (5,)},
                "shifts": {"pixels": 2, "attacks": {"FGSM": ATTACKS["FGSM"]}},
                **_base.transfer_of({"black box": "a twin"}, ATTACKS),
            }
        },
    ).to_dict()
    workdir = Workdir(tmp_path / "run")
    workdir.claim(config)
    for seed, path in enumerate((workdir.classifier, tmp_path / "twin.keras")):
        keras.utils.set_random_seed(seed)
        make_small().save(path)
    return tmp_path


def command(*arguments):
    """Runs the command's main with flags of its own."""
    values = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", values)
        for name in ("string", "list", "float", "integer", "multi_string"):
            define = getattr(flags, f"DEFINE_{name}")
            patch.setattr(flags, f"DEFINE_{name}", lambda *a, f=define, **k: f(*a, **k, flag_values=values))
        config = beyond.define_config_file
        patch.setattr(beyond, "define_config_file", lambda *a, **k: config(*a, **k, flag_values=values))
        patch.setattr(sys, "argv", ["command", *arguments])
        beyond.define_flags()
        values(["command", *arguments])
        beyond.main([])


def test_a_runs_tables_are_measured_and_stand_beside_the_papers(folder, capsys):
    command(f"--workdir={folder / 'run'}", f"--source=black box={folder / 'twin.keras'}", "--images=40")
    printed = capsys.readouterr().out
    saved = {kind: Table.load(folder / "run" / "tables" / f"{kind}.json") for kind in ("shifts", "transfer")}
    classifier = keras.models.load_model(folder / "run" / "classifier.keras")
    x, y = next(iter(tfrobust.data.load("digits", "test", batch_size=40)))
    expected = shifts(classifier, (x.numpy(), y.numpy()), 2, attack={"FGSM": "fgsm"}, eps=0.1, verbose=False)
    assert saved["shifts"].figures == expected.figures and saved["shifts"].images == 40
    changed = ("random noise", "black box FGSM", "black box PGD-2")
    assert saved["transfer"].rows == ("clean", *(label + end for label in changed for end in ("", " (plain)")))
    left = f"{100 * expected['shifted left', 'clean']:.2f}"
    rows = {line[:28].strip(): line[28:].split() for line in printed.splitlines() if line[:28].strip() in PAPER}
    assert rows["shifted left clean"][0] == "91.00" and rows["shifted left clean"][2] == left
    assert rows["contrast mean"][0] == "64.00" and rows["contrast mean"][2] != "-"
    for label, figure in (("black box FGSM", "73.00"), ("black box FGSM (plain)", "74.00")):
        twin = f"{100 * saved['transfer'][label, 'classifier']:.2f}"
        assert rows[label][0] == figure and rows[label][2] == twin


def test_a_missing_source_leaves_the_other_tables(folder, capsys):
    command(f"--workdir={folder / 'run'}", "--images=10")
    assert 'Transfer is left out: it needs --source="black box=FILE.keras" (a twin).' in capsys.readouterr().out
    assert {path.name for path in (folder / "run" / "tables").iterdir()} == {"corruptions.json", "shifts.json"}
    with pytest.raises(cli.Misuse, match=r'^Transfer needs --source="black box=FILE.keras" \(a twin\). Received: no'):
        command(f"--workdir={folder / 'run'}", "--kind=transfer")


def test_attacks_of_the_flag_take_the_place_of_the_configs(folder):
    command(f"--workdir={folder / 'run'}", "--images=10", "--kind=shifts", "--attacks=random_noise")
    table = Table.load(folder / "run" / "tables" / "shifts.json")
    assert "random_noise" in table.columns and "FGSM" not in table.columns


def test_a_file_and_data_are_enough(folder, capsys):
    model = folder / "twin.keras"
    base = (f"--model={model}", "--data=digits", "--images=20", f"--output={folder / 'out'}")
    command(*base, "--kind=noise,shifts", "--pixels=1")
    assert {path.stem for path in (folder / "out").iterdir()} == {"noise", "shifts"}
    assert Table.load(folder / "out" / "shifts.json").settings["pixels"] == 1
    # The white box is the classifier as its own source.
    command(*base, "--kind=transfer", f"--source=twin={model}", f"--target=twin={model}", "--attacks=fgsm", "--eps=0.1")
    table = Table.load(folder / "out" / "transfer.json")
    data = next(iter(tfrobust.data.load("digits", "test", batch_size=20)))
    classifier = keras.models.load_model(model)
    report = evaluate(classifier, tuple(map(np.asarray, data)), attacks=["fgsm"], eps=0.1, probes=0, verbose=False)
    assert table["twin fgsm", "twin"] == report.attacks[0].accuracy


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((), r"^Expected one of --workdir=DIR and --model=FILE. Received: neither"),
        (("--model=a.keras",), r"^Expected --data beside --model"),
        (("--model={twin}", "--data=digits"), r"^Expected --kind of corruptions, shifts, noise, transfer, distances"),
        (("--model={twin}", "--data=digits", "--kind=blur"), r"^Expected --kind of .*Received: --kind=blur"),
        (("--model={twin}", "--data=digits", "--kind=distances"), r"^--kind=distances needs a config"),
        (("--model={twin}", "--data=digits", "--kind=transfer"), r'^Transfer needs --source="NAME=FILE.keras"'),
        (("--model={twin}", "--data=digits", "--source=x"), r"^Expected --source=NAME=FILE.keras, each name once"),
        (
            ("--model={twin}", "--data=digits", "--kind=transfer", "--source=a={twin}"),
            r"^Transfer needs --eps and --attacks",
        ),
        (
            ("--model={twin}", "--data=digits", "--kind=shifts", "--attacks=fgsm"),
            r"^Attacks on shifted images need --eps",
        ),
    ],
)
def test_what_is_no_request_is_refused(folder, arguments, match):
    with pytest.raises(cli.Misuse, match=match):
        command(*(argument.format(twin=folder / "twin.keras") for argument in arguments))


def test_groups_of_distances_are_one_table():
    shared = {"step_size": 0.05, "start": "uniform"}
    groups = {
        f"{steps}-iter": {
            "PGD": {"name": "pgd", "steps": steps, **shared},
            "cw_linf": {"name": "cw_linf", "keep": "last", "steps": steps, **shared},
            "infofeature": {"name": "infofeature", "steps": steps, **shared},
        }
        for steps in (1, 2)
    }
    x, y = np.random.default_rng(0).random((6, 8, 8, 1), "float32"), np.arange(6)
    subject = beyond.Subject("digits", tfrobust.models.get("digits", features=16), (x, y), None, {"eps": 0.1})
    table = beyond.measure("distances", subject, {"groups": groups})
    assert list(table.rows) == [f"{group} {label}" for group in groups for label in ("cw_linf", "infofeature")]
    assert beyond.figures(table, "digits").keys() == set(table.rows)
    assert all(0 < row[0] <= 2 * 0.1 * 8 for row in table.figures)  # no further than two corners of the ball


def test_best_and_worst_of_several_runs_stand_beside_the_papers():
    def report(clean, pgd):
        result = SimpleNamespace(name="PGD", accuracy=pgd)
        return SimpleNamespace(clean_accuracy=clean, robust_accuracy=pgd, attacks=[result])

    paper = {"clean": 90.6, "PGD": 50.0, "worst run clean": 89.9, "worst run PGD": 48.5}
    text = best_and_worst([report(0.8, 0.4), report(0.7, 0.5), report(0.9, 0.3)], paper)
    assert [line.split()[-2] for line in text.splitlines()[1:]] == ["70.00", "50.00", "90.00", "30.00"]


def test_figures_beside_the_papers_need_not_be_accuracies():
    assert beside({"a": 0.5}, {"a": 25.0, "b": 1.0}).splitlines()[1:] == [
        f"{'a':28}  25.00 %   50.00 %",
        f"{'b':28}   1.00 %         -",
    ]
    assert beside({"a": 0.5}, {"a": 2.8}, percent=False).splitlines()[1] == f"{'a':28}     2.80      0.50"
    assert beside({"a": 0.5}, {}) == ""
