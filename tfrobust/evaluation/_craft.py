"""Adversaries of every image, made on one classifier to be shown to others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfrobust.evaluation._images import Images
from tfrobust.evaluation._line_up import Entry
from tfrobust.evaluation._verdict import Referee, returned


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
    z = images.x.copy()
    alive = np.arange(len(images.y))
    first = True
    for number, member in enumerate(entry.members, place):
        if not len(alive):
            break
        search = member.search(referee.classify, images.x)
        for run in range(member.runs(classes)):
            right = [alive[:0]]
            for x, y, packed in images.batches(alive, batch_size):
                found = returned(member.name, search(x, y, packed, seed(number, run), run), x)
                verdict = referee(x, y, found)
                fooled = verdict.allowed & ~verdict.right
                kept = verdict.allowed if first else fooled
                z[packed[kept]] = found[kept]
                right.append(packed[~fooled])
            alive = np.concatenate(right)
            first = False
    return z
