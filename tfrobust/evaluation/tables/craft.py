"""Adversaries of every image, made on one classifier to be shown to others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfrobust.evaluation.attack_list import Entry
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.scoring import Referee, returned


def craft(
    referee: Referee,
    images: Images,
    entry: Entry,
    batch_size: int,
    seed: Callable[..., Any],
    classes: int,
    place: int = 0,
) -> np.ndarray:
    """Returns an adversary of each image, `(N, H, W, C)`: of the first run that fools the classifier, else the first's.

    Of attacks without a radius every run is made, and an image gets the nearest of what fools and lies in the ball.
    Images that the classifier has wrong already are attacked as well: another classifier may have them right. Later
    runs go to those that are still right. What leaves the ball or the bounds is discarded, and the image stays as it
    was.

    Args:
        referee: of the classifier under attack.
        images: all of them.
        entry: of the line-up.
        batch_size: images in a batch.
        seed: `(place of the attack, run) -> (2,)`.
        classes: of the classifier.
        place: of the entry's first attack.
    """
    z, far = images.x.copy(), np.full(len(images.y), np.inf)
    first = True
    for number, member in enumerate(entry.members, place):
        if not (far > 0).any():
            break
        search = member.search(referee.given, images.x)
        for run in range(member.runs(classes)):
            for x, y, packed in images.batches(np.flatnonzero(far > 0), batch_size):
                found = returned(member.name, search(x, y, packed, seed(number, run), run), x)
                verdict = referee(x, y, found)
                its_far = member.far(found, x, verdict.fooled)
                kept = (its_far < far[packed]) | (verdict.allowed & first)
                z[packed[kept]] = found[kept]
                far[packed] = np.minimum(its_far, far[packed])
            first = False
    return z
