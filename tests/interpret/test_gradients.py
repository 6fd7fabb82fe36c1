"""Gradients: a linear network's is its weight; the papers' forms of them, worked by hand."""

import numpy as np
import pytest

import tfrobust
from tfrobust.interpret import clip_deviations, input_gradients, normalize, rescale, sign_picture


def test_a_linear_networks_gradient_is_its_weight(hand):
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(16, 3)), rng.normal(size=3)
    x, y = rng.random((5, 4, 4, 1), "float32"), np.array([0, 1, 2, 2, 1])
    classifier = hand.linear(kernel, bias)
    g = input_gradients(classifier, x, y, batch_size=2)
    logits = x.reshape(5, 16) @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(g.reshape(5, 16), (p - np.eye(3)[y]) @ kernel.T, atol=1e-5)
    np.testing.assert_allclose(g, input_gradients(classifier, x, np.eye(3)[y]), atol=1e-6)  # labels as one-hot rows

    weight = rng.normal(size=16)
    two = hand.linear(np.stack([np.zeros(16), weight], axis=1))
    towards = normalize(input_gradients(two, x, np.zeros(5)))
    np.testing.assert_allclose(towards.reshape(5, 16), np.tile(weight / abs(weight).max(), (5, 1)), atol=1e-5)


def test_clipping_is_by_the_images_own_deviations():
    rng = np.random.default_rng(1)
    g = rng.standard_t(2, (6, 5, 5, 3)) * np.array([1e-12, 1e-3, 1, 10, 1e6, 1e20]).reshape(-1, 1, 1, 1)
    shown, own = clip_deviations(g, 1.5), []
    for image in g.astype("float32").astype("float64"):
        clipped = np.clip(image, image.mean() - 1.5 * image.std(), image.mean() + 1.5 * image.std())
        own.append((clipped - clipped.min()) / (clipped.max() - clipped.min()))
    np.testing.assert_allclose(shown, own, atol=1e-5)
    np.testing.assert_allclose(rescale(g)[2], (g[2] - g[2].min()) / (g[2].max() - g[2].min()), atol=1e-5)
    assert (shown > rescale(g) + 0.01).any()  # something was clipped
    flat = np.stack([np.zeros((2, 2, 1)), np.full((2, 2, 1), -3.0)])
    for form in (rescale, clip_deviations):
        np.testing.assert_array_equal(form(flat), 0.5)
    np.testing.assert_array_equal(normalize(flat).ravel(), [0] * 4 + [-1] * 4)


def test_the_papers_two_norms_are_one():
    g = np.random.default_rng(2).normal(size=(3, 4, 4, 2))
    tilde = g / np.linalg.norm(g.reshape(3, -1), axis=1).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(normalize(g), tilde / abs(tilde).max(axis=(1, 2, 3), keepdims=True), atol=1e-6)


def test_signs_are_shown_above_the_threshold():
    g = np.array([[[[0.3, -0.1], [0.1, -0.4]], [[0.2, 0.2], [0.0, 0.05]]]])
    picture = sign_picture(g, 0.2, positive="lime", negative="red")
    assert picture.shape == (1, 2, 2, 3)
    np.testing.assert_array_equal(picture[0], [[[0, 1, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]])  # 0.2 is not above 0.2
    np.testing.assert_array_equal(sign_picture(g, 0.2, "white")[0, 1], 1.0)
    # As a reader without green cones sees them (Machado et al. 2009), the two default colours stay apart.
    deuteranopia = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    green, red = sign_picture(g, 0.0)[0, 0] @ deuteranopia.T
    assert np.linalg.norm(green - red) > 0.3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda g: clip_deviations(g, 0), "`deviations`: expected a positive number. Received: 0"),
        (lambda g: sign_picture(g, -1), "`threshold`: expected a number of at least 0"),
        (lambda g: sign_picture(g, 0.1, "grey"), "black"),
        (lambda g: normalize(g[0]), r"expected gradients \(N, H, W, C\)"),
        (lambda g: input_gradients(tfrobust.models.get("digits"), g, [0]), r"expected \(batch, 8, 8, 1\)"),
        (lambda g: input_gradients(lambda x: x, g, [0]), "expected a Keras model with named outputs"),
    ],
)
def test_mistakes_are_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.zeros((1, 4, 4, 1), "float32"))
