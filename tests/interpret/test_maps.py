"""Maps: a network that reads one pixel attends there; the signed map's mean is the logit."""

import keras
import numpy as np
import pytest

import tfrobust
from tfrobust.classifiers import head_of
from tfrobust.interpret import attention_maps, class_activation_maps


def test_a_network_that_reads_one_pixel_attends_there(hand, pixels):
    maps = attention_maps(hand.attended(hand.Glance()), pixels[0], batch_size=5)
    assert list(maps) == ["all"] and maps["all"].shape == (12, 4, 4)
    wanted = np.zeros((4, 4))
    wanted[hand.PIXEL] = 1
    np.testing.assert_allclose(maps["all"], np.tile(wanted, (12, 1, 1)), atol=1e-6)


def test_maps_are_enlarged_to_the_image(hand):
    x = np.random.default_rng(0).random((2, 8, 8, 1), "float32")
    classifier = hand.attended(hand.Glance(), (8, 8))
    own = attention_maps(classifier, x, upsample=False)["all"]
    large = attention_maps(classifier, x)["all"]
    assert own.shape == (2, 4, 4) and large.shape == (2, 8, 8)
    row, column = (2 * place for place in hand.PIXEL)
    inside = large[:, row : row + 2, column : column + 2]
    assert (inside == large.max(axis=(1, 2), keepdims=True)).all() and (large < inside[0, 0, 0]).sum() == 2 * 60


@pytest.fixture
def pooled():
    classifier = tfrobust.models.get("digits", features=16, activation="leaky_relu")  # maps of both signs
    dense = head_of(classifier).dense
    dense.bias.assign(np.arange(10.0))
    return classifier


def test_the_mean_of_the_signed_map_is_the_logit(pooled):
    x = np.random.default_rng(0).random((7, 8, 8, 1), "float32")
    outputs = {name: keras.ops.convert_to_numpy(value) for name, value in pooled(x).items()}
    labels = np.arange(7)
    signed = class_activation_maps(pooled, x, labels, "signed", upsample=False, batch_size=3)
    assert signed.shape == (7, 2, 2)
    logits = outputs["logits"][np.arange(7), labels]
    np.testing.assert_allclose(signed.mean(axis=(1, 2)) + labels, logits, rtol=1e-4, atol=1e-5)
    kernel = keras.ops.convert_to_numpy(head_of(pooled).dense.kernel)
    clipped = class_activation_maps(pooled, x, labels, upsample=False)
    by_hand = np.maximum(outputs["feature_map"] * kernel[:, labels].T[:, None, None], 0).sum(axis=-1)
    np.testing.assert_allclose(clipped, by_hand, rtol=1e-4, atol=1e-6)
    predicted = outputs["logits"].argmax(axis=-1)
    np.testing.assert_allclose(class_activation_maps(pooled, x), class_activation_maps(pooled, x, predicted), atol=1e-6)
    assert class_activation_maps(pooled, x).shape == (7, 8, 8)


def test_what_has_no_map_is_told_what_to_build(pooled):
    x = np.zeros((1, 8, 8, 1), "float32")
    with pytest.raises(ValueError, match=r"attention map reads.*models.get\('madry_resnet', attention=\(4,\)\)"):
        attention_maps(pooled, x)
    with pytest.raises(ValueError, match=r"class activation map reads.*GlobalAveragePooling2D"):
        class_activation_maps(tfrobust.models.get("digits", head="cosine"), x)
    with pytest.raises(ValueError, match="'clipped'"):
        class_activation_maps(pooled, x, form="cliped")
    with pytest.raises(ValueError, match="integers from 0 to 9"):
        class_activation_maps(pooled, x, [10])
