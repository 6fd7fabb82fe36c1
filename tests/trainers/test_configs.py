"""The config of every row of every table: it is whole, it resolves, and it takes a training step."""

import copy
import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from absl import flags
from ml_collections import ConfigDict

import tfrobust
from commands import build
from commands import config as _base
from commands.config_flag import define_config
from tfrobust.evaluation.attack_list import list_attacks
from tfrobust.models import heads
from tfrobust.models.registry import MODELS

corruptions = importlib.import_module("tfrobust.evaluation.tables.corruptions")  # the function has the module's name
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "trainers" / "configs"
FILES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
# What `paper` may name beside the attacks of its evaluation and the labels of its tables: other runs of a row.
OTHER_RUNS = "worst run "
# Small runs of this library's own, and rows of the papers with fewer columns: no tables of a paper.
OWN = ("digits", "interpretation", "reproduction")
# Networks that no attack finds right, of which the papers print the clean accuracy alone.
NATURAL = ("fpr_v1_t3", "fpr_v2_s4_3", "fpr_v2_t4")
# Tables of classifiers that another file trains and evaluates.
MEASURED_APART = ("infofeature_t2", "infofeature_t6", "thesis_t3_9", "thesis_t4_7")
# Rows of which the papers print no figures.
UNPRINTED = [
    ("fpr_v2_s4_3", "dot"),
    ("infofeature_t1", "infofeature_maps"),
    *(("aelf_f5", f"beta_{beta}") for beta in (0.1, 0.3, 0.6, 0.8, 1.0)),
]
# (H, W, C) and classes, of what is downloaded and so not there on every machine.
DATA = {
    "digits": ((8, 8, 1), 10),
    "mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "svhn_cropped": ((32, 32, 3), 10),
}


def get_config(file, *row):
    return importlib.import_module(f"trainers.configs.{file}").get_config(*row)


def rows_of(file):
    """A table's rows, as the refusal of an unknown one lists them."""
    with pytest.raises(
        ValueError, match=rf"^Unknown row of {file}\.py: expected one of .*Received: 'no such row'$"
    ) as e:
        get_config(file, "no such row")
    return str(e.value).split("one of ")[1].rsplit(". Received", 1)[0].split(", ")


ROWS = [(file, row) for file in FILES for row in rows_of(file)]
each_row = pytest.mark.parametrize(("file", "row"), ROWS, ids=[f"{file}:{row}" for file, row in ROWS])


def labels(tables):
    """Yields the labels that the tables of a config have: `paper` names its figures by them."""
    for direction in _base.DIRECTIONS if "shifts" in tables else ():
        yield from (f"shifted {direction} {column}" for column in ("clean", *tables["shifts"]["attacks"]))
    yield from (f"{kind} mean" for kind in tables.get("corruptions", {}).get("kinds", ()))
    if transfer := tables.get("transfer"):
        changed = ("random noise", *(f"{source} {a}" for source in transfer["sources"] for a in transfer["attacks"]))
        yield from (f"{label} (plain)" for label in changed)  # papers print the accuracy on adversaries alone
    for group, members in tables.get("distances", {}).get("groups", {}).items():
        yield from (f"{group} {label}" for label in [*members][1:])


def published(attacks):
    """The columns of a row that also has the form of them that its paper measured."""
    return {label for label in attacks if f"{label} on cosines (as published)" in attacks}


def as_json(value):
    if isinstance(value, dict):
        return {key: as_json(part) for key, part in value.items()}
    return [as_json(part) for part in value] if isinstance(value, (list, tuple)) else value


def test_there_is_a_file_for_every_table():
    tables = {
        "fpr_v1": ["t1", "t2", "t3"],
        "fpr_v2": ["t1", "t2", "t3", "t4", "t5", "t6", "s4_3"],
        "infofeature": ["t1", "t2", "t3", "t4", "t5", "t6"],
        "aelf": ["f5", "t2", "t3", "t4", "t5", "t6"],
        "thesis": ["t3_2", "t3_4", "t3_6", "t3_7", "t3_8", "t3_9", *(f"t4_{n}" for n in range(1, 8))],
    }
    assert sorted([*OWN, *(f"{paper}_{table}" for paper, names in tables.items() for table in names)]) == FILES


@each_row
def test_a_row_is_plain_data_that_json_keeps(file, row):
    config = get_config(file, row).to_dict()
    assert json.loads(json.dumps(config, allow_nan=False)) == as_json(config)
    assert set(config) == set(_base.FIELDS)
    assert set(config["data"]) == set(_base.FIELDS["data"])
    assert set(config["evaluation"]) == {"attacks", "eps", "norm"}


@each_row
def test_figures_stand_under_known_columns_and_attacks_stay_inside(file, row):
    config = get_config(file, row).to_dict()
    evaluation, paper = config["evaluation"], config["paper"]
    assert all(0.0 <= figure <= 100.0 for figure in paper.values())
    if file in OWN or (file, row) in UNPRINTED:
        return
    assert ("clean" in paper) == (file not in MEASURED_APART)
    tables = list(labels(config["tables"]))
    if file in MEASURED_APART:
        assert sorted(paper) == sorted(tables) and not evaluation["attacks"]
        return
    assert set(tables) - set(paper) <= {"random noise (plain)"}
    attacks = evaluation["attacks"]
    known = {"clean", "PGD-10 random start", *attacks, *tables, *_base.GRADIENT_MAPS}
    others = [label for label in paper if label not in known]
    assert all(label.startswith(OTHER_RUNS) for label in others), others
    # Natural rows print no attack; one table has attacks of others' runs, and SPAT's published attack has company.
    known = {"PGD-10 random start", "APGD-DLR", *published(attacks)}
    assert set(attacks) - set(paper) <= (set(attacks) if file in NATURAL else known)
    for label, attack in attacks.items():
        assert attack.get("eps", evaluation["eps"]) <= evaluation["eps"], label
    assert max(attack.get("eps", evaluation["eps"]) for attack in attacks.values()) == evaluation["eps"]


@each_row
def test_every_member_of_a_row_resolves(file, row):
    config = get_config(file, row).to_dict()
    model = dict(config["model"])
    assert set(model) - {"name"} <= set(MODELS.parameters(model["name"])), model
    heads.make(model.get("head", "dense"), 10)
    norm = config["evaluation"]["norm"] or "linf"
    ball = tfrobust.attacks.threat_model.ball(norm, config["evaluation"]["eps"])
    transfer, shifted = (config["tables"].get(kind, {}).get("attacks", {}) for kind in ("transfer", "shifts"))
    groups = config["tables"].get("distances", {}).get("groups", {}).values()
    for attacks in (config["evaluation"]["attacks"], transfer, shifted, *groups):
        if attacks:
            labels = [entry.name for entry in list_attacks(attacks, ball).entries]
            assert file == "digits" or labels == list(attacks)
    kinds = config["tables"].get("corruptions", {}).get("kinds", ())
    assert set(kinds) <= {*corruptions.CIFAR_10_C, *corruptions.EXTRA}
    for phase in build.phases_of(config):
        assert tfrobust.objectives.get(phase["objective"]).name == phase["objective"]["name"]
        assert tfrobust.attacks.get(build.given(phase["attack"])).name == phase["attack"]["name"]
        assert phase["epochs"] >= 1
        build.build_optimizer(phase, steps_per_epoch=10)
        rate = phase["learning_rate"]
        if isinstance(rate, dict) and rate["name"] == "PiecewiseConstantDecay":  # all of it is used
            assert rate["boundaries"][-1] < phase["epochs"]


# Figures that the project's notes quote, with the columns that they name.
QUOTED = [
    ("fpr_v2_t1", "at_reg", {"clean": 98.66, "PGD-40": 95.69, "black box PGD-40 (plain)": 96.90}),
    ("fpr_v2_t2", "at_att_reg", {"clean": 81.21, "PGD-20": 44.58, "CW-30": 43.09}),
    ("fpr_v2_t3", "at_att", {"clean": 86.48, "PGD-20": 39.52}),
    ("fpr_v1_t2", "madry", {"gradient maps train clipped": 27.10, "gradient maps test raw": 28.72}),
    ("fpr_v1_t2", "at_att_id", {"gradient maps train clipped": 30.13, "gradient maps test raw": 31.53}),
    ("fpr_v2_t2", "madry", {"gradient maps test clipped": 26.78, "gradient maps train raw": 28.60}),
    ("fpr_v2_t2", "at_att_reg", {"gradient maps test clipped": 30.32, "gradient maps train raw": 31.46}),
    ("fpr_v2_t4", "judge", {"clean": 88.79}),
    ("fpr_v2_s4_3", "nonlinear", {"clean": 92.87}),
    ("fpr_v2_s4_3", "sum", {"clean": 91.34}),
    ("fpr_v1_t2", "at_att", {"clean": 82.71, "PGD-5": 51.06, "black box PGD-5 (plain)": 63.88}),
    ("infofeature_t1", "fm", {"clean": 85.6, "PGD-20": 42.9, "CW-20": 44.2}),
    ("aelf_t2", "aelfs", {"clean": 99.29, "PGD-16": 94.06, "shifted up clean": 75.33, "shifted up PGD-16": 45.82}),
    ("aelf_t3", "jt_star_0.6", {"clean": 86.10, "PGD-5": 40.37, "PGD-10": 39.63}),
    ("thesis_t3_2", "spat", {"clean": 99.21, "PGD-20 on cosines (as published)": 96.64}),
    ("thesis_t3_2", "mart", {"clean": 98.89, "PGD-20": 96.24}),
    ("thesis_t3_4", "gairat", {"clean": 83.14, "PGD-20": 54.85, "AutoAttack": 35.90}),
    ("thesis_t4_1", "mnist_trades_1", {"clean": 99.3, "PGD-20": 94.1}),
    ("thesis_t4_1", "cifar10_mart", {"clean": 83.4, "PGD-20": 52.8}),
    ("thesis_t4_2", "dra", {"clean": 99.3, "PGD 3/10": 95.9}),
    ("thesis_t4_3", "dra", {"clean": 93.8, "PGD 2/255": 64.9}),
    # And those of the tables of transfer, distances and corruptions, read in the papers.
    ("infofeature_t6", "infofeature", {"random noise (plain)": 89.8, "standard CW-10 (plain)": 88.3}),
    ("infofeature_t6", "infofeature", {"madry PGD-10 (plain)": 76.6}),
    ("infofeature_t2", "madry", {"1-iter cw_linf": 2.8, "7-iter infofeature": 2.8, "10-iter cw_linf": 2.0}),
    ("thesis_t3_4", "spat", {"FAB": 48.74, "black box FAB (plain)": 84.23, "black box AutoAttack (plain)": 84.25}),
    ("thesis_t3_9", "spat", {"fog mean": 49.34, "snow mean": 75.02, "gaussian_blur mean": 74.71}),
    ("thesis_t4_7", "dra", {"jpeg_compression mean": 89.51, "gaussian_noise mean": 75.85}),
]


@pytest.mark.parametrize(("file", "row", "figures"), QUOTED)
def test_figures_are_those_that_the_notes_quote(file, row, figures):
    paper = get_config(file, row).paper.to_dict()
    assert {label: paper[label] for label in figures} == figures


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("thesis_t3")])
def test_figures_of_pgd_on_cosines_stand_beside_that_attack(file):
    """SPAT's authors attack the cosines: where the head scales them, no printed figure is of PGD on the logits."""
    for row in rows_of(file) if file != "thesis_t3_9" else ():
        config = get_config(file, row).to_dict()
        attacks, ours = config["evaluation"]["attacks"], {"PGD-20", "PGD-100"}
        assert attacks["APGD-DLR"] == {"name": "apgd", "loss": "dlr"}
        scaled = bool(config["model"].get("head", {}).get("scale"))
        assert published(attacks) == (ours & set(attacks) if scaled else set())
        for label in ours & set(attacks):
            twin = f"{label} on cosines (as published)"
            assert (label in config["paper"]) != (twin in config["paper"]) == scaled
            assert attacks.get(twin, {"loss": "cosine_cross_entropy"})["loss"] == "cosine_cross_entropy"
            if scaled:
                assert attacks[twin] == {**attacks[label], "loss": "cosine_cross_entropy"}


def test_two_phases_of_aelfs_are_complete_and_the_second_freezes_the_head():
    first, second = build.phases_of(get_config("aelf_t3", "aelfs_0.4").to_dict())
    assert (first["objective"]["name"], first["epochs"], first["frozen"]) == ("standard", 100, ())
    assert (second["objective"]["name"], second["epochs"], second["frozen"]) == ("aelfs", 160, ("head",))
    assert first["learning_rate"]["boundaries"] == [40.0, 80.0]
    assert second["learning_rate"] == {
        "name": "PiecewiseConstantDecay",
        "boundaries": [50.0, 100.0],
        "values": [0.1, 0.01, 0.001],
    }
    star = build.phases_of(get_config("aelf_t3", "jt_star_0.4").to_dict())
    assert [phase["objective"]["name"] for phase in star] == ["standard", "joint"]
    assert star[1]["frozen"] == () and star[1]["objective"]["beta"] == 0.5


def test_the_sweep_of_beta_can_share_its_first_phase():
    """Without its phases a row is the second one alone, and table 3's row `st` is the first one."""
    both = build.phases_of(get_config("aelf_f5", "beta_0.8").to_dict())
    alone = build.phases_of(parsed("aelf_f5", "beta_0.8", "phases=()", "fine_tune=st.keras").to_dict())
    first = build.phases_of(get_config("aelf_t3", "st").to_dict())
    apart = ("phases", "fine_tune", "paper")
    for shared, row in ((alone, both[1:]), (first, both[:1])):
        assert [{k: v for k, v in fit.items() if k not in apart} for fit in shared] == [
            {k: v for k, v in fit.items() if k not in apart} for fit in row
        ]
    assert alone[0]["objective"]["beta"] == 0.8 and alone[0]["frozen"] == ("head",)


def test_fine_tuning_lets_eps_fall_and_ends_with_clean_epochs():
    standard, tuning, clean = build.phases_of(get_config("thesis_t4_3", "dra").to_dict())
    attack = tfrobust.attacks.get(tuning["attack"])
    radii = [255 * float(attack.at(epoch).ball.radius) for epoch in (0, 25, 50)]
    np.testing.assert_allclose(radii, [2.0, 1.25, 0.5], rtol=1e-5)
    assert [phase["objective"]["name"] for phase in (standard, tuning, clean)] == ["standard", "dra", "standard"]
    assert (tuning["epochs"], clean["epochs"]) == (50, 10)


def test_drops_and_linear_are_schedules_over_epochs():
    drops = tfrobust.schedules.get(_base.drops(0.1, (75, 90)))
    np.testing.assert_allclose([float(drops(e)) for e in (0.0, 75.0, 75.1, 90.1)], [0.1, 0.1, 0.01, 0.001], rtol=1e-6)
    linear = tfrobust.schedules.get(_base.linear(2.0, 0.5, 50))
    np.testing.assert_allclose([float(linear(e)) for e in (0.0, 20.0, 60.0)], [2.0, 1.4, 0.5], rtol=1e-6)
    rising = tfrobust.attacks.get(_base.pgd(_base.linear(0.03, 0.3, 0.5), 1, 0.01))
    np.testing.assert_allclose(
        [float(rising.at(e).ball.radius) for e in (0.0, 0.25, 9.0)], [0.03, 0.165, 0.3], rtol=1e-5
    )


def test_build_lays_later_settings_over_earlier_ones():
    config = _base.build(
        {"data": {"name": "mnist"}, "epochs": 3, "model": {"name": "a", "x": 1}}, {"model": {"name": "b"}}
    )
    assert config.data.name == "mnist" and config.data.batch_size == 128  # part by part
    assert config.model.to_dict() == {"name": "b"}  # as a whole
    assert config.epochs == 3
    with pytest.raises(ValueError, match=r"^Unknown field: expected one of seed, .*Received: epoch$"):
        _base.build({"epoch": 3})


def test_figures_must_fit_their_columns():
    assert _base.figures(("clean", "PGD"), 90, 50) == {"clean": 90.0, "PGD": 50.0}
    with pytest.raises(ValueError, match="shorter"):
        _base.figures(("clean", "PGD"), 90)


def parsed(file, row, *overrides):
    """The config as the command makes it of its flags."""
    values = flags.FlagValues()
    arguments = ["command", f"--config={FOLDER / file}.py:{row}", *(f"--config.{text}" for text in overrides)]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(sys, "argv", arguments)  # where ml_collections looks for overrides
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it loads a file
        define_config("digits", FOLDER, flag_values=values)
        values(arguments)
    return values.config


def test_any_field_is_overridden_from_the_command_line():
    assert parsed("fpr_v2_t2", "at_reg", "objective.weight=3").objective.weight == 3.0
    assert parsed("digits", "trades", "objective.beta=3", "data.image_size=(16,16)").data.image_size == (16, 16)
    config = parsed("digits", "mail_at", "objective.constant=3", "attack.eps=0.1")
    assert config.objective.constant == 3.0 and config.evaluation.eps == 0.1
    options = ("form=sum", "head={'name':'cosine','scale':8.0}", "original=False", "attention=(3,)")
    config = parsed("fpr_v2_t2", "at_att", *(f"model.{option}" for option in options))  # the row sets the last two
    head = {"name": "cosine", "scale": 8.0}
    expected = {"name": "madry_resnet", "width": 1, "attention": (3,), "original": False, "form": "sum", "head": head}
    assert config.model.to_dict() == expected and config.is_locked
    config = parsed("aelf_t2", "aelfs", "phases[0].epochs=3", "fine_tune=a.keras")
    assert isinstance(config, ConfigDict) and config.to_dict()["phases"][0]["epochs"] == 3
    assert config.fine_tune == "a.keras"
    assert parsed("thesis_t4_3", "dra", "attack.eps.end_learning_rate=0.0").attack.eps.end_learning_rate == 0.0
    assert parsed("fpr_v2_t2", "madry", "evaluation.attacks['PGD-20'].steps=2").evaluation.attacks["PGD-20"].steps == 2


def test_a_network_refuses_an_option_that_is_none():
    model = parsed("digits", "madry", "model.feature=16").model.to_dict()
    with pytest.raises(
        ValueError, match=r"Unknown argument of model 'digits'.*Received: 'feature'\. Did you mean 'featu"
    ):
        tfrobust.models.get(model)
    with pytest.raises(AttributeError, match="betta"):  # elsewhere the row says what there is
        parsed("fpr_v2_t2", "madry", "objective.betta=1")


def test_an_override_touches_no_other_config():
    before = copy.deepcopy(get_config("aelf_t2", "aelfs").to_dict())
    get_config("aelf_t2", "aelfs").phases[0]["epochs"] = 3
    config = get_config("aelf_t2", "aelfs")
    config.evaluation.attacks["PGD-16"].steps = 1
    assert get_config("aelf_t2", "aelfs").to_dict() == before


def test_one_step_attacks_of_the_digits_follow_eps():
    config = parsed("digits", "feature_scatter", "attack.eps=0.1")
    assert (config.attack.steps, config.attack.step_size) == (1, 0.1)


def test_what_the_objectives_declare_is_written_down():
    """Without TensorFlow the config of the digits reads a file: `python -m trainers.configs.digits` writes it anew."""
    from trainers.configs import digits

    written = json.loads(digits.WRITTEN.read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(digits.declared()))


def test_configs_import_no_tensorflow():
    code = f"import importlib, sys\nfor f in {FILES}: importlib.import_module('trainers.configs.' + f).get_config()\n"
    code += "print([m for m in ('tensorflow', 'keras', 'tfrobust') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


# Training steps


@pytest.fixture
def without_data(monkeypatch):
    """Data that are shapes alone: `without_data(size)`, where colour images have that size in place of their own."""

    def prepare(size=None):
        def info(name, *, image_size=None, **_):
            (height, width, channels), classes = DATA[name]
            height, width = image_size or ((size, size) if size and channels == 3 else (height, width))
            return SimpleNamespace(input_shape=(height, width, channels), classes=classes)

        monkeypatch.setattr(tfrobust.data, "info", info)
        monkeypatch.setattr(build, "load_data", lambda *_, **__: SimpleNamespace(cardinality=lambda: 100))

    return prepare


def take_steps(config):
    """One update in every phase, on two random images, as `tfrobust train` would begin it.

    At a small rate: a full-sized step on two images can throw a network of 101 layers out of its numbers.
    """
    for part in (config, *config["phases"]):
        part["learning_rate"] = 1e-3
    keras.utils.set_random_seed(config["seed"])
    classifier = build.build_classifier(config)
    generator = np.random.default_rng(0)
    x = generator.random((2, *classifier.input_shape[1:]), "float32")
    y = generator.integers(classifier.output["logits"].shape[-1], size=2)
    stem, head = classifier.trainable_variables[0], tfrobust.classifiers.head_of(classifier).trainable_variables[0]
    phases = build.phases_of(config)
    trainers = [build.build_trainer(phase, classifier, number) for number, phase in enumerate(phases)]
    for phase, trainer in zip(phases, trainers, strict=True):
        trainer.run_eagerly = True
        before = stem.numpy(), head.numpy()
        with build.frozen(classifier, phase["frozen"]):
            logs = trainer.train_on_batch(x, y, return_dict=True)
        assert np.isfinite(list(logs.values())).all(), logs
        moved = [(a != b.numpy()).any() for a, b in zip(before, (stem, head), strict=True)]
        assert moved == [True, "head" not in phase["frozen"]]


# A small network in place of the deep ones, for the fast suite: their layers are the matter of tests/models.
NARROW = {"name": "wide_resnet", "depth": 10, "width": 1}
SMALL = dict.fromkeys(("wrn_28_10", "wrn_40_10", "resnet18", "resnet34", "resnet50", "resnet101"), NARROW)


def quick(config):
    """The same members, with no more of the attack's steps than it needs: two where its iterates are counted."""
    for part in (config, *config["phases"]):
        if "attack" in part:
            part["attack"] = {**part["attack"], "steps": 2 if config["objective"]["name"] == "gairat" else 1}
    config["model"] = {**config["model"], **SMALL.get(config["model"]["name"], {})}
    return config


def members(config):
    """The network, and each phase's objective and attack with what they may read: the kind of head, and attention.

    Nothing else of a network reaches them, so that a few rows will do for all that there are.
    """
    model = quick(config)["model"]
    head = heads.make(model.get("head", "dense"), 10)
    reads = (type(head).__name__, getattr(head, "scale", 0) is None, bool(model.get("attention")))
    yield model["name"], model.get("attention"), reads
    for phase in build.phases_of(config):
        attack = None if phase["objective"]["name"] == "standard" else phase["attack"]["name"]
        yield phase["objective"]["name"], tuple(phase["frozen"]), attack, reads


def combinations():
    """A few rows with every member among them; small networks and those with most phases come first."""
    seen, chosen = set(), []
    configs = {(file, row): get_config(file, row).to_dict() for file, row in ROWS}
    for name, config in sorted(configs.items(), key=lambda item: (-len(item[1]["phases"]), item[0])):
        keys = set(members(config))
        if keys - seen:
            chosen.append(name)
        seen |= keys
    return sorted(chosen)


# Advice that the rows of the papers do not take: features after a ReLU (AELF's tables run both).
advice = pytest.mark.filterwarnings("ignore:The objective 'aelfs' expects features of both signs")


@advice
@pytest.mark.parametrize(("file", "row"), combinations())
def test_every_member_takes_a_step_in_every_phase(file, row, without_data):
    without_data(size=16)  # the networks for colour images pool over whatever is left
    take_steps(quick(get_config(file, row).to_dict()))


@advice
@pytest.mark.slow
@each_row
def test_every_row_takes_a_step_in_every_phase(file, row, without_data):
    without_data()
    take_steps(get_config(file, row).to_dict())
