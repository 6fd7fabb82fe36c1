"""Computes attention weights and class activation maps over the pixels of images."""

from typing import Any

import numpy as np
from keras import ops

from tfrobust.classifiers import head_of
from tfrobust.interpret.batches import graph, images
from tfrobust.layers import ClassActivationMap
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Bounds, Tensor


def attention_maps(
    classifier: Any, x: Any, *, upsample: bool = True, bounds: Bounds = (0.0, 1.0), batch_size: int = 256
) -> dict[str, np.ndarray]:
    """Returns the attention weights of each block over the images.

    The weights of a block sum to 1 over its positions; after bilinear enlargement each pixel has the weight of its
    position, or one between two.

    Args:
        classifier: a classifier with the output `attention`.
        x: images `(N, H, W, C)`, pixels within the bounds.
        upsample: whether to enlarge the maps to the images.
        bounds: least and greatest pixel value.
        batch_size: images in a batch.

    Returns:
        block -> `(N, H, W)` float32; the blocks' own sizes without `upsample`.

    Raises:
        ValueError: for a classifier without attention; the error says which one to build.

    Example:

    >>> classifier = tfrobust.models.get("madry_resnet", input_shape=(8, 8, 3), attention=(3, 4))
    >>> maps = tfrobust.interpret.attention_maps(classifier, np.zeros((2, 8, 8, 3), "float32"))
    >>> {block: weights.shape for block, weights in maps.items()}
    {'block3': (2, 8, 8), 'block4': (2, 8, 8)}

    Reference: FPR-v1 and FPR-v2, figure 3.
    """

    def weights(x: Tensor) -> dict[str, Tensor]:
        attended = classifier(x, training=False)["attention"]
        return {block: enlarged(weights, x) if upsample else weights for block, weights in attended.items()}

    run = graph(weights)
    parts = images(classifier, x, None, "attention map", ["attention"], batch_size, bounds)
    found = [run(batch.x) for batch in parts]
    return {block: np.concatenate([np.asarray(part[block]) for part in found]) for block in found[0]}


def class_activation_maps(
    classifier: Any,
    x: Any,
    labels: Any = None,
    form: str = "clipped",
    *,
    upsample: bool = True,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
) -> np.ndarray:
    """Returns the class activation map of one class for each image.

    Clipped: M[h, w] = sum_k max(W[k, c] A[h, w, k], 0); signed: M[h, w] = sum_k W[k, c] A[h, w, k], whose mean over the
    positions is the logit of c without its bias.

    Args:
        classifier: a classifier with the outputs `feature_map` and `cam`.
        x: images `(N, H, W, C)`, pixels within the bounds.
        labels: the class c of each image, `(N,)` integers; None: the predicted one.
        form: "clipped", "signed" or "grad_cam", independent of the form in the classifier's own head.
        upsample: whether to enlarge the maps bilinearly to the images.
        bounds: least and greatest pixel value.
        batch_size: images in a batch.

    Returns:
        `(N, H, W)` float32; the feature map's size without `upsample`.

    Raises:
        ValueError: for an unknown form, and a classifier without global average pooling and a dense layer.

    Example:

    >>> classifier = tfrobust.models.get("digits")
    >>> tfrobust.interpret.class_activation_maps(classifier, np.zeros((2, 8, 8, 1), "float32"), form="signed").shape
    (2, 8, 8)

    Reference: InfoFeature, equations 5 (signed) and 6 (clipped).
    """
    if form not in ClassActivationMap.FORMS:
        raise unknown("form of a class activation map", form, ClassActivationMap.FORMS)
    parts = images(classifier, x, labels, "class activation map", ["cam", "feature_map"], batch_size, bounds)
    first = next(parts)
    head = head_of(classifier).in_form(form)

    def maps(x: Tensor, y: Tensor) -> Tensor:
        outputs = classifier(x, training=False)
        label = ops.argmax(outputs["logits"], axis=-1) if labels is None else y
        own = head(outputs["features"], feature_map=outputs["feature_map"], label=label)["cam"]
        return enlarged(own, x) if upsample else own

    run = graph(maps)
    return np.concatenate([np.asarray(run(batch.x, batch.y)) for batch in (first, *parts)])


def enlarged(maps: Tensor, x: Tensor) -> Tensor:
    """Returns maps `(B, h, w)` in the size of the images x, bilinearly, `(B, H, W)` float32; in graph code."""
    return ops.image.resize(ops.cast(maps, "float32")[..., None], x.shape[1:3], interpolation="bilinear")[..., 0]
