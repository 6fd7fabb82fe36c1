"""The gradient-map test, coverage, and attention against robustness, on networks whose answers are known."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfrobust.interpret import attention_against_robustness, coverage, gradient_map_test


def test_the_judge_finds_the_gradient_where_the_network_reads(hand, pixels):
    # The gradient of class 0 points away from a bright pixel: its map is dark there alone. A judge of the same pixel
    # that calls dark ones 0 is always right; one of another pixel sees the ground, and is always wrong.
    judges = {"here": hand.one_pixel(slope=-4.0), "elsewhere": hand.one_pixel(at=(3, 3), slope=-4.0)}
    reads = {"one": hand.one_pixel()}
    found = {name: gradient_map_test(judge, reads, pixels, batch_size=5) for name, judge in judges.items()}
    assert found["here"].figures == ((1.0, 1.0),) and found["elsewhere"].figures == ((0.0, 0.0),)
    assert found["here"].rows == ("one",) and found["here"].images == 12
    # On images it is the reverse: what it was "trained" on is that dark is 0, and the labels call bright 0.
    assert found["here"].settings["judge_accuracy"] == 0.0


def test_clipping_shows_what_one_great_value_hides(hand):
    x, y = np.full((3, 4, 4, 1), 0.5, "float32"), np.ones(3, "int32")
    kernel = np.zeros((16, 2))
    kernel[0], kernel[1] = (100, 0), (1, 0)  # the gradient of class 1: 100, 1 and 14 zeros
    # By 0.27 deviations of 24.2 around the mean 6.3 the greatest becomes 12.9: the second is 0.08 of it, not 0.01.
    judge = hand.one_pixel(at=(0, 1), slope=-100.0, least=0.04)
    table = gradient_map_test(judge, {"two": hand.linear(kernel, [-50.5, 0])}, (x, y), deviations=0.27)
    assert table["two", "raw"] == 0.0 and table["two", "clipped"] == 1.0


def test_maps_are_brought_to_the_pixel_range(hand, pixels):
    x, y = pixels
    wide = (2 * x - 1).astype("float32")
    judge = hand.one_pixel(slope=-4.0, least=0.0)  # gray is 0 in [-1, 1]
    table = gradient_map_test(judge, {"one": hand.one_pixel(least=0.0)}, (wide, y), bounds=(-1.0, 1.0))
    assert table.figures == ((1.0, 1.0),)


def test_coverage_of_one_pixel_and_of_known_weights(hand, pixels):
    steps = np.zeros((16, 2))
    steps[:8, 0] = np.arange(1, 9) / 8  # eight pixels of 1/8 .. 1, eight that it does not read
    nets = {"one": hand.one_pixel(), "steps": hand.linear(steps)}
    batches = [(pixels[0][i : i + 5], pixels[1][i : i + 5]) for i in (0, 5, 10)]
    shape = (tf.TensorSpec((None, 4, 4, 1)), tf.TensorSpec((None,), tf.int32))
    data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=shape)
    table = coverage(nets, data, [0.0, 0.2, 0.55, 0.9])
    assert table.columns == ("0", "0.2", "0.55", "0.9") and table.images == 12
    np.testing.assert_allclose(table.figures, [[1 / 16] * 4, [8 / 16, 7 / 16, 4 / 16, 1 / 16]], atol=1e-6)
    raw = coverage({"flat": hand.linear(np.zeros((16, 2))), **nets}, pixels, [0.0, 100.0], normalized=False)
    np.testing.assert_allclose(raw.figures, [[0, 0], [1 / 16, 0], [8 / 16, 0]], atol=1e-6)


def less_where_bright(classify, x, y):
    return x + 0.1 * (1 - x)


def test_attention_by_robustness_rank(hand, pixels):
    classifier = hand.attended(hand.Bright())
    found = attention_against_robustness(classifier, pixels, less_where_bright, batch_size=5)["all"]
    order = np.argsort(-pixels[0].reshape(12, 16), axis=1)  # the brightest is moved least, and has the most attention
    bright = np.take_along_axis(pixels[0].reshape(12, 16).astype("float64"), order, axis=1)
    weights = np.exp(3 * bright) / np.exp(3 * bright).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.attention, weights.mean(axis=0), atol=1e-6)  # that of the clean image
    np.testing.assert_allclose(found.distance, (0.1 * (1 - bright)).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose([found.correlation, found.low, found.high], -1.0)
    assert (found.images, found.undefined) == (12, 0)
    reverse = attention_against_robustness(classifier, pixels, lambda c, x, y: 0.9 * x)["all"]
    np.testing.assert_allclose(reverse.correlation, 1.0)


def test_the_correlation_is_spearmans_with_an_interval_over_images(hand, pixels):
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, pixels[0].shape).astype("float32")
    noise[1] = 0  # nothing moves: no rank
    classifier = hand.attended(hand.Bright())
    found = attention_against_robustness(classifier, pixels, lambda c, x, y: x + noise)["all"]
    rows = [
        stats.spearmanr(abs(n).ravel(), i.ravel()).statistic for i, n in zip(pixels[0], noise, strict=True) if n.any()
    ]
    assert (found.images, found.undefined) == (12, 1)
    np.testing.assert_allclose(found.correlation, np.mean(rows), atol=1e-6)
    wide = 1.96 * np.std(rows, ddof=1) / np.sqrt(len(rows))
    np.testing.assert_allclose([found.low, found.high], np.mean(rows) + np.array([-wide, wide]), atol=0.06)


def test_what_cannot_be_measured_is_a_sentence(hand, pixels):
    net, three = hand.one_pixel(), hand.linear(np.zeros((16, 3)))
    with pytest.raises(ValueError, match=r"comparison of attention and robustness reads.*attention=\(4,\)"):
        attention_against_robustness(net, pixels, "fgsm")
    with pytest.raises(ValueError, match=r"classifiers of 2 classes, as the first has\. Received: 3"):
        gradient_map_test(net, {"three": three}, pixels)
    for classifiers in (net, {}):
        with pytest.raises(ValueError, match="expected a mapping name -> classifier"):
            coverage(classifiers, pixels)
    with pytest.raises(ValueError, match="`thresholds`"):
        coverage({"one": net}, pixels, [-1.0])
    with pytest.raises(ValueError, match="at least one image"):
        coverage({"one": net}, (pixels[0][:0], pixels[1][:0]))
    with pytest.raises(ValueError, match="Invalid pixels"):
        coverage({"one": net}, (2 * pixels[0], pixels[1]))
