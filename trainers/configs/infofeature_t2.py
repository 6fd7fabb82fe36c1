"""InfoFeature, table 2: L2 distance of each attack's adversaries to those of PGD, of ResNet-18 trained as in table 1.

`tfrobust beyond --config=infofeature_t2:madry --workdir=DIR` measures a run of
`infofeature_t1.py:madry`. The paper's unit (x 1e-5) is not explained: compare ratios of its figures, not the figures.
"""

from typing import Any

from trainers.configs import _infofeature

EPS, STEP = 8 / 255, 2 / 255


def group(steps: int, *others: str) -> dict[str, dict[str, Any]]:
    """Returns PGD, the reference, and the attacks compared with it, in as many steps and from the same start.

    choice: steps of 2/255; a single one is of 8/255 for all, as it is in the methods that take no more. With 2/255 the
    distance to CW could not be the greatest after one step, as the paper has it.
    """
    shared = {"steps": steps, "step_size": STEP if steps > 1 else EPS, "start": "uniform"}
    return {
        "PGD": {"name": "pgd", **shared},
        **{label: {"name": label, **shared} for label in others},
        "cw_linf": {"name": "cw_linf", "keep": "last", **shared},
        "infofeature": {"name": "infofeature", "weight": 0.1, **shared},
    }


GROUPS = {
    "1-iter": group(1, "feature_scatter", "adv_interpolation"),
    **{f"{steps}-iter": group(steps) for steps in (2, 5, 7, 10, 20)},
}
COLUMNS = tuple(f"{name} {label}" for name, members in GROUPS.items() for label in [*members][1:])
# One step: Feature Scattering, AdvInterp, CW, InfoFeature; 2, 5, 7, 10 and 20 steps: CW, InfoFeature.
PAPER = {
    "standard": (2.1, 2.0, 2.8, 2.0, 1.8, 2.2, 1.6, 1.9, 1.5, 2.0, 1.5, 2.0, 1.6, 2.1),  # "Clean" in the paper
    "madry": (2.1, 2.0, 2.8, 2.0, 1.8, 2.7, 1.6, 2.7, 1.8, 2.8, 2.0, 2.8, 2.1, 2.8),
}
MEASURED = {"evaluation": {"eps": EPS, "attacks": ""}, "tables": {"distances": {"groups": GROUPS}}}

get_config = _infofeature.table(__file__, PAPER, _infofeature.RESNET18, MEASURED, columns=COLUMNS, default="madry")
