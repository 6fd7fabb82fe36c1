"""Measures accuracy on shifted images, clean and attacked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from tfrobust.evaluation.evaluate import evaluate
from tfrobust.evaluation.tables.accuracy import Accuracy
from tfrobust.evaluation.tables.table import Table
from tfrobust.utils.errors import InvalidArgument, invalid_value
from tfrobust.utils.registry import unknown
from tfrobust.utils.text import percent
from tfrobust.utils.types import Bounds, Tensor
from tfrobust.utils.validation import check_integer

DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


def shift(x: Tensor, direction: str, pixels: int, fill: float = 0.0) -> Tensor:
    """Returns images moved by whole pixels; pixels from outside the image are background.

    Args:
        x: pixels, `(B, H, W, C)`.
        direction: "left", "right", "up" or "down".
        pixels: distance in pixels.
        fill: value of the background.

    Raises:
        ValueError: for an unknown direction, and a distance that is not at least 1 and less than the image's side.

    Example:

    >>> tfrobust.evaluation.shift(np.array([[[[1.0], [2.0], [3.0]]]]), "left", 1)[0, 0, :, 0].numpy()
    array([2., 3., 0.])
    """
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS)
    x = ops.convert_to_tensor(x)
    steps = [check_integer("pixels", pixels) * way for way in DIRECTIONS[direction]]
    if any(abs(step) >= side for step, side in zip(steps, x.shape[1:3], strict=True)):
        sides = f"{tuple(x.shape[1:3])} (on the command line --pixels)"
        raise invalid_value("pixels", f"an integer of at least 1 and less than the images' sides, {sides}", pixels)
    kept = [slice(max(0, -step), side - max(0, step)) for step, side in zip(steps, x.shape[1:3], strict=True)]
    room = [(max(0, step), max(0, -step)) for step in steps]
    return ops.pad(x[:, kept[0], kept[1]], ((0, 0), *room, (0, 0)), constant_values=fill)


def shifts(
    classifier: Any,
    data: Any,
    pixels: int = 8,
    *,
    attack: Any = None,
    eps: float | None = None,
    norm: str = "linf",
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
    verbose: bool = True,
) -> Table:
    """Measures accuracy on images shifted left, right, up and down, clean and under attack.

    Attacks may change all pixels of the shifted images, the background too. Adversarially trained networks lose more
    accuracy by a shift than others do. AELF, section 2.2 and table 2: MNIST at 32x32, 8 pixels.

    Args:
        classifier, data, eps, norm, batch_size, seed: as in `evaluate`.
        pixels: distance in pixels, less than a side of the images.
        attack: None: clean accuracy alone; or one attack, or `attacks` of `evaluate`: a suite's name, a list,
            a mapping.
        bounds: least and greatest pixel value; the least one is the background.
        verbose: whether to print a line for each shift and attack.

    Returns:
        A `Table`: rows "unshifted", "shifted left", "shifted right", "shifted up", "shifted down"; columns "clean", one
        for each attack, and, of several, "worst case".

    Raises:
        ValueError: for an invalid distance, an attack without eps, and for everything that `evaluate` refuses.

    Example:

    >>> x, y = np.zeros((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> table = tfrobust.evaluation.shifts(tfrobust.models.get("digits"), (x, y), pixels=2, verbose=False)
    >>> table.columns, len(table.rows)
    (('clean',), 5)
    """
    if attack is not None and eps is None:
        raise InvalidArgument(
            "`attack` needs `eps`, its radius: expected a number in units of the pixels. Received: eps=None"
        )
    measured = Accuracy(classifier, data, batch_size, bounds)
    x, y = measured.images
    moved = {"unshifted": x}
    for direction in DIRECTIONS:
        moved[f"shifted {direction}"] = np.asarray(shift(x, direction, pixels, bounds[0]))
    figures: dict[str, dict[str, float | None]] = {}
    attacks: dict[str, Any] = {}
    for name, z in moved.items():
        figures[name] = {"clean": float(measured.right_on(z).mean())}
        if verbose:
            print(f"{name}: clean {percent(figures[name]['clean'])}", flush=True)  # type: ignore[arg-type]
        if attack is not None and eps is not None:
            report = evaluate(
                classifier, (z, y), attacks=_several(attack), eps=eps, norm=norm, bounds=bounds,
                batch_size=batch_size, seed=seed, probes=0, verbose=verbose,
            )  # fmt: skip
            figures[name].update({result.name: result.accuracy for result in report.attacks})
            if len(report.attacks) > 1:
                figures[name]["worst case"] = report.robust_accuracy
            attacks = {result.name: result.settings for result in report.attacks}
    return Table.from_rows(
        f"accuracy on images shifted by {pixels} pixels",
        figures,
        len(y),
        seed,
        settings={"pixels": int(pixels), "eps": eps, "norm": norm, "bounds": list(bounds), "attacks": attacks},
    )


def _several(attack: Any) -> Any:
    """Returns `attacks` for `evaluate`: a single attack becomes a list."""
    from tfrobust.evaluation import suites

    suite = isinstance(attack, str) and attack in suites.names()
    config = isinstance(attack, Mapping) and isinstance(attack.get("name"), str)
    return attack if suite or (isinstance(attack, (list, tuple, Mapping)) and not config) else [attack]
