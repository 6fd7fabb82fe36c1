"""Reduced rows of the papers' tables, by which `python -m benchmarks.papers` tests their claims on 2 CPU cores.

A row is TABLE/ROW. It is the row of the paper's own config file with the fields of `reduced` laid over it: a smaller
network or smaller images, fewer epochs, fewer steps. All rows of a table have the same budget, apart from the phases
that belong to a method. This protocol was written down before its first run, and no row is tuned to a result.

The data are the whole of MNIST, and a part of CIFAR-10 as TensorFlow Datasets hold it (`TFDS_DATA_DIR`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from commands import config
from trainers.configs import (
    _aelf,
    _fpr,
    _thesis,
    aelf_t2,
    fpr_v2_s4_3,
    fpr_v2_t1,
    fpr_v2_t2,
    fpr_v2_t4,
    infofeature_t1,
    thesis_t3_6,
    thesis_t3_7,
    thesis_t4_2,
    thesis_t4_3,
)


class Reduced(NamedTuple):
    """A table in its reduced form: the paper's table, fields of all rows, and for each row a paper's row and fields."""

    paper: config.GetConfig
    fields: config.Settings
    rows: Mapping[str, tuple[str, config.Settings]]

    def get_config(self, row: str) -> ConfigDict:
        """Returns the paper's row with the fields of all rows and its own laid over it."""
        under, own = self.rows[row]
        figures: config.Settings = {} if under == row else {"paper": {}}  # the paper's figures are of its own row
        return config.build(self.paper(under).to_dict(), self.fields, figures, own)


def _same(*names: str) -> dict[str, tuple[str, config.Settings]]:
    """Returns rows that differ from the paper's in the fields of all rows alone."""
    return {name: (name, {}) for name in names}


def _fit(rate: float, drops: tuple[float, ...], epochs: int) -> dict[str, Any]:
    return {"learning_rate": config.drops(rate, drops) if drops else rate, "epochs": epochs}


def _wide(depth: int, width: int, **options: Any) -> dict[str, Any]:
    return {"name": "wide_resnet", "depth": depth, "width": width, "dropout": 0.0, **options}


STANDARD = config.objective("standard")
SMALL_CIFAR = {"image_size": (16, 16), "augment": {"pad": 2, "flip": True}}  # of CIFAR-10's part

MNIST_10 = _fit(0.05, (6, 9), 10)
THESIS_T4_2 = Reduced(
    thesis_t4_2.get_config,
    {"attack": config.pgd(0.3, 10, 0.04), **MNIST_10},
    {
        **_same("vanilla", "trades_1", "trades_0.5", "trades_0.1"),
        "dra": (
            "dra",
            {**_thesis.dra(0.1, p=2 / 3, steps=20), **_fit(0.01, (), 8), "phases": ({**STANDARD, **MNIST_10}, {})},
        ),
    },
)

# BatchNorm, without which every row at eps 0.3 stays at chance; eps rises over the first three epochs of a phase.
MNIST_12 = _fit(0.1, (5, 10), 12)
JT_STAR = {**_aelf.joint(0.5, 0.5, beta=0.5), **_aelf.after(MNIST_12)}
AELFS = {**_aelf.joint(0.5, 0.5, beta=0.5, name="aelfs"), **_aelf.after(MNIST_12, "head")}
AELF_T2 = Reduced(
    aelf_t2.get_config,
    {
        "data": {"image_size": (16, 16)},
        "model": _wide(10, 1, activation="leaky_relu"),
        "attack": {
            **config.pgd(0.3, 8, 0.04, start="none"),
            "eps": config.linear(0.03, 0.3, 3),
            "step_size": {"name": "RelativeStepSize", "fraction": 0.04 / 0.3},
        },
        "tables": {"shifts": {**aelf_t2.get_config().tables.shifts.to_dict(), "pixels": 4}},
        **MNIST_12,
    },
    {
        **_same("st", "at", "jt"),
        "jt_star": ("jt", JT_STAR),
        "aelfs": ("aelfs", AELFS),
        "aelfs_0.1": ("aelfs", {**AELFS, **_aelf.joint(0.5, 0.5, beta=0.1, name="aelfs")}),
    },
)

CIFAR_30 = {**STANDARD, **_fit(0.1, (20, 27), 30)}
THESIS_T4_3 = Reduced(
    thesis_t4_3.get_config,
    {"data": SMALL_CIFAR, "model": _wide(16, 2), "weight_decay": 5e-4, **_fit(0.1, (20, 27), 30)},
    {
        # With two radii more, between which the thesis has DRA.
        "vanilla": ("vanilla", _thesis.weak_columns({f"{pixels}/255": pixels / 255 for pixels in (2, 3, 5, 6, 8)})),
        **{row: (row, {"attack": config.pgd(0.031, 5, 0.0124)}) for row in ("trades_0.05", "trades_0.01")},
        "dra": (
            "dra",
            {
                **_thesis.dra(config.linear(2 / 255, 0.5 / 255, 12)),
                **_fit(0.01, (), 12),
                "phases": (CIFAR_30, {}, {**STANDARD, **_fit(0.001, (), 3)}),
            },
        ),
    },
)


def _spat(paper: config.GetConfig, heads: dict[str, float]) -> Reduced:
    """Returns the reduced form of a table of SPAT, row -> scale of its head."""
    fields = {
        "data": SMALL_CIFAR,
        "attack": config.pgd(8 / 255, 5, 3 / 255),
        "weight_decay": 5e-4,
        **_fit(0.1, (15, 18), 20),
    }
    rows = {
        row: (row, {"model": _wide(16, 2, head={"name": "cosine", "scale": scale})}) for row, scale in heads.items()
    }
    return Reduced(paper, fields, rows)


THESIS_T3_6 = _spat(thesis_t3_6.get_config, {f"s_{scale}": float(scale) for scale in (1, 3, 5, 8, 10)})
THESIS_T3_7 = _spat(thesis_t3_7.get_config, dict.fromkeys(("spat", "plain_accuracy", "plain_robustness", "plain"), 5.0))

# Nothing is held out, because nothing is chosen; eps rises over the first 600 of 4,800 updates.
FPR_T1 = Reduced(
    fpr_v2_t1.get_config,
    {
        "data": {"validation": 0.0},
        "attack": {"name": "pgd", "eps": config.linear(0.03, 0.3, 0.5), "steps": 10},
        **_fit(5e-4, (3,), 4),
    },
    _same("madry", "at_reg"),
)

FPR_ATTACKS = {label: _fpr.ATTACKS[label] for label in ("PGD-5", "PGD-20", "CW-30")}
NATURAL = {**STANDARD, "evaluation": {"attacks": {"PGD-5": _fpr.ATTACKS["PGD-5"]}}, "tables": {}}
FPR_T2 = Reduced(
    fpr_v2_t2.get_config,
    {"data": {"batch_size": 64}, **_fit(0.1, (12, 17), 20), **config.black_box(8 / 255, FPR_ATTACKS, _fpr.TWIN)},
    {
        **_same("madry", "at_reg", "at_att", "at_att_reg"),
        "judge": ("madry", {**NATURAL, "seed": 7, "paper": fpr_v2_t4.get_config().paper.to_dict()}),
        **{
            f"natural_{form}": (
                "at_att",
                {
                    **_fpr.network(attended=(4,), form=form),
                    **NATURAL,
                    "paper": fpr_v2_s4_3.get_config(form).paper.to_dict(),
                },
            )
            for form in ("nonlinear", "sum", "dot")
        },
    },
)

THREE_STEPS = {"attack": config.pgd(8 / 255, 3, 4 / 255)}
# Figure 4 there: both attacks by their iterations. With a weight of 0 InfoFeature is PGD, so that weights below the
# paper's show whether a scale of the distance makes it the stronger one.
ITERATIONS, WEIGHTS = (1, 3, 7), {"1/10": 0.1, "1/100": 0.01, "1/1000": 0.001}
FIGURE_4 = {
    "evaluation": {
        "attacks": {
            **infofeature_t1.get_config().evaluation.attacks.to_dict(),
            **{f"PGD after {steps}": config.pgd_column(steps, 2 / 255) for steps in ITERATIONS},
            **{
                f"InfoFeature {name} after {steps}": {
                    "name": "infofeature",
                    "steps": steps,
                    "step_size": 2 / 255,
                    "weight": weight,
                }
                for name, weight in WEIGHTS.items()
                for steps in ITERATIONS
            },
        }
    }
}
INFOFEATURE_T1 = Reduced(
    infofeature_t1.get_config,
    {"data": {"batch_size": 64, "validation": 0.05}, "model": _wide(10, 1), **_fit(0.1, (15, 23), 30)},
    {
        "standard": ("standard", FIGURE_4),
        "madry_half_step": ("madry_half_step", FIGURE_4),
        **_same("alp_half_step", "feature_scatter", "adv_interpolation", "infofeature_half_step"),
        "fm_half_step": ("fm_half_step", {"model": _wide(10, 1, head={"name": "dense", "form": "grad_cam"})}),
        "madry_3": ("madry", THREE_STEPS),
        "infofeature_3": ("infofeature", THREE_STEPS),
    },
)

TABLES = {
    "thesis_t4_2": THESIS_T4_2,
    "aelf_t2": AELF_T2,
    "thesis_t4_3": THESIS_T4_3,
    "thesis_t3_6": THESIS_T3_6,
    "thesis_t3_7": THESIS_T3_7,
    "fpr_t1": FPR_T1,
    "fpr_t2": FPR_T2,
    "infofeature_t1": INFOFEATURE_T1,
}
ROWS = {f"{table}/{row}": (table, row) for table, reduced in TABLES.items() for row in reduced.rows}


def get_config(row: str = "thesis_t4_2/dra") -> ConfigDict:
    """Returns the configuration of a row."""
    table, name = config.pick(__file__, ROWS, row)
    return TABLES[table].get_config(name)
