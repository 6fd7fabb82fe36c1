"""The network of Madry et al. and its attention forms."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import models
from tfrobust.layers import LinearAttention, NonlinearAttention, Standardize

X = np.random.default_rng(0).uniform(0, 1, (2, 16, 16, 3)).astype("float32")
FORMS = ["nonlinear", "sum", "dot"]


def make(**options):
    return models.get("madry_resnet", input_shape=(16, 16, 3), **options)


def arrays(outputs):
    return keras.tree.map_structure(np.array, outputs)


def shapes(outputs):
    return keras.tree.map_structure(lambda t: t.shape[1:], arrays(outputs))


def same_weights(source, target):
    """Gives `target` the weights of `source`, layer by layer of the same name; returns the names it had to leave."""
    known = {layer.name: layer for layer in source.layers if layer.weights}
    mine = {layer.name: layer for layer in target.layers if layer.weights}
    for name in known.keys() & mine.keys() - {"head"}:
        mine[name].set_weights(known[name].get_weights())
    return mine.keys() - known.keys()


# Every BatchNorm has four values a channel, no convolution has a bias.
def unit(channels, filters):
    return 4 * channels + 9 * channels * filters + 4 * filters + 9 * filters * filters


def trunk(a, b, c):
    """Stem of 16, blocks of a, b and c filters, last BatchNorm."""
    first = unit(16, a) + unit(a, b) + unit(b, c)
    return 27 * 16 + first + 4 * (unit(a, a) + unit(b, b) + unit(c, c)) + 4 * c


PLAIN = trunk(16, 32, 64)
GLOBAL = 9 * 64 * 64 + 4 * 64
OWN3 = 4 * 32  # the BatchNorm of block 3's local features
SIZES = [
    ({}, PLAIN + 650),
    ({"width": 3}, trunk(48, 96, 192) + 192 * 10 + 10),
    ({"classes": 100}, PLAIN + 64 * 100 + 100),
    ({"input_shape": (32, 32, 1)}, PLAIN - 18 * 16 + 650),
    ({"head": "cosine"}, PLAIN + 640),
    # The nonlinear attention: (local + global) * 64 + 64 biases + 64 of the output.
    ({"attention": (4,)}, PLAIN + GLOBAL + (128 * 64 + 128) + 650),
    ({"attention": (3,)}, PLAIN + GLOBAL + OWN3 + (96 * 64 + 128) + 330),
    ({"attention": (3, 4)}, PLAIN + GLOBAL + OWN3 + (96 * 64 + 128) + (128 * 64 + 128) + 970),
    # Linear: u, and a projection from 64 to 32 for block 3.
    ({"attention": (4,), "form": "sum"}, PLAIN + GLOBAL + 64 + 650),
    ({"attention": (3, 4), "form": "sum"}, PLAIN + GLOBAL + OWN3 + 32 + 64 + 64 * 32 + 970),
    ({"attention": (4,), "form": "dot"}, PLAIN + GLOBAL + 650),
    ({"attention": (3, 4), "form": "dot"}, PLAIN + GLOBAL + OWN3 + 64 * 32 + 970),
    (
        {"attention": (4,), "width": 3},
        trunk(48, 96, 192) + 9 * 192 * 192 + 4 * 192 + (384 * 64 + 128) + 1930,
    ),
]


@pytest.mark.parametrize(("options", "count"), SIZES)
def test_parameters_by_hand(options, count):
    assert models.get("madry_resnet", **options).count_params() == count


def test_sizes_as_numbers():
    # PLAIN and the wide trunk, multiplied out on paper, so that the helper above is no circle.
    assert PLAIN == 432 + 5 * 4736 + (14016 + 4 * 18688) + (55680 + 4 * 74240) + 256 == 465776
    assert trunk(48, 96, 192) == 432 + (27904 + 4 * 41856) + (124992 + 4 * 166656) + (498816 + 4 * 665088) + 768


def test_filters_and_layers():
    for width, filters in ((1, [16, 16, 32, 64]), (3, [16, 48, 96, 192])):
        classifier = make(width=width)
        convolutions = [layer for layer in classifier.layers if isinstance(layer, keras.layers.Conv2D)]
        assert [c.filters for c in convolutions] == filters[:1] + [f for f in filters[1:] for _ in range(10)]
        assert {c.kernel_size for c in convolutions} == {(3, 3)} and not any(c.use_bias for c in convolutions)
        assert [c.name for c in convolutions if c.strides != (1, 1)] == ["block3_unit1_conv1", "block4_unit1_conv1"]
        norms = [layer for layer in classifier.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert len(norms) == 31 and {(n.momentum, n.epsilon) for n in norms} == {(0.9, 1e-5)}
        slopes = [layer.negative_slope for layer in classifier.layers if isinstance(layer, keras.layers.LeakyReLU)]
        assert slopes == [0.1] * 31
        assert not any(isinstance(layer, keras.layers.ReLU) for layer in classifier.layers)


def test_kernels_start_by_what_leaves_them():
    kernel = models.get("madry_resnet", width=3).get_layer("block4_unit1_conv1").get_weights()[0]
    assert kernel.shape == (3, 3, 96, 192)
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 192)), rtol=0.02)


def test_outputs_of_the_plain_network():
    expected = {"logits": (10,), "features": (64,), "feature_map": (4, 4, 64), "cam": (4, 4, 10)}
    assert shapes(make()(X)) == expected
    assert shapes(make(width=2, classes=3, head="cosine")(X)) == {
        "logits": (3,),
        "features": (128,),
        "feature_map": (4, 4, 128),
        "cosine": (3,),
    }


@pytest.mark.parametrize(("blocks", "form"), [((3,), "sum"), ((4,), "dot"), *(((3, 4), form) for form in FORMS)])
def test_outputs_with_attention(blocks, form):
    classifier = make(attention=blocks, form=form, width=2)
    outputs = arrays(classifier(X))
    every = {"block3": (8, 8), "block4": (4, 4)}
    channels = {"block3": 64, "block4": 128}
    keys = [f"block{b}" for b in blocks]
    assert list(outputs) == ["logits", "features", "attention", "local_features"]
    assert shapes(outputs) == {
        "logits": (10,),
        "features": (sum(channels[k] for k in keys),),
        "attention": {k: every[k] for k in keys},
        "local_features": {k: (*every[k], channels[k]) for k in keys},
    }
    for weights in outputs["attention"].values():
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1.0, rtol=1e-5)
    descriptors = [np.einsum("bhw,bhwd->bd", outputs["attention"][k], outputs["local_features"][k]) for k in keys]
    np.testing.assert_allclose(outputs["features"], np.concatenate(descriptors, axis=1), rtol=1e-4, atol=1e-4)
    kernel, bias = classifier.get_layer("head").get_weights()
    np.testing.assert_allclose(outputs["logits"], outputs["features"] @ kernel + bias, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_attention_layers_have_their_own_weights_and_names(form):
    classifier = make(attention=(3, 4), form=form)
    kind = NonlinearAttention if form == "nonlinear" else LinearAttention
    layers = [layer for layer in classifier.layers if isinstance(layer, kind)]
    assert [layer.name for layer in layers] == ["attention3", "attention4"]
    assert form == "nonlinear" or {layer.form for layer in layers} == {form}
    assert not {id(v) for v in layers[0].variables} & {id(v) for v in layers[1].variables}


def test_attended_features_are_those_of_the_plain_network():
    plain, attended = make(), make(attention=(3, 4))
    own = same_weights(plain, attended)
    assert own == {"global_conv", "global_act_bn", "local3_bn", "attention3", "attention4"}
    local = arrays(attended(X)["local_features"])
    # Block 4: what the plain network averages.
    np.testing.assert_allclose(local["block4"], plain(X)["feature_map"], rtol=1e-4, atol=1e-4)
    # Block 3: what block 4 reads, behind BatchNorm (still the identity, but for epsilon) and leaky ReLU.
    x = np.array(keras.Model(plain.input, plain.get_layer("block3_unit5").output)(X)) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(local["block3"], np.where(x > 0, x, 0.1 * x), rtol=1e-4, atol=1e-4)
    # The residual path does not see block 3's own pair.
    norm = attended.get_layer("local3_bn")
    norm.set_weights([2 * w for w in norm.get_weights()])
    changed = arrays(attended(X)["local_features"])
    np.testing.assert_array_equal(changed["block4"], local["block4"])
    assert np.abs(changed["block3"] - local["block3"]).max() > 0.1


def test_global_feature_is_pooled_convolved_and_pooled():
    classifier = make(attention=(4,))
    outputs = keras.Model(
        classifier.input, [classifier.get_layer("local4").output, classifier.get_layer("global_feature").output]
    )
    local, received = arrays(outputs(X))
    pooled = local.reshape(2, 2, 2, 2, 2, 64).max(axis=(2, 4))
    kernel = classifier.get_layer("global_conv").get_weights()[0]
    padded = np.pad(pooled, [[0, 0], [1, 1], [1, 1], [0, 0]])
    y = np.zeros((2, 2, 2, 64))
    for i, j in itertools.product(range(3), range(3)):
        y += padded[:, i : i + 2, j : j + 2] @ kernel[i, j]
    y /= np.sqrt(1 + 1e-5)
    expected = np.where(y > 0, y, 0.1 * y).max(axis=(1, 2))
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("form", FORMS)
def test_the_branch_of_the_global_feature_learns_but_in_the_form_sum(form):
    """softmax_n(u . (l_n + g)) = softmax_n(u . l_n): g cancels, and with it the gradient of all that computes it."""
    classifier = make(attention=(4,), form=form)
    behind = keras.Model(classifier.get_layer("local4").output, classifier.output["logits"])
    branch = [w for name in ("global_conv", "global_act_bn") for w in classifier.get_layer(name).trainable_weights]
    with tf.GradientTape() as tape:
        logits = behind(np.random.default_rng(0).normal(size=(2, 4, 4, 64)).astype("float32"))
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([3, 5], logits))
    head = classifier.get_layer("head").trainable_weights
    gradients = [np.abs(g).max() for g in tape.gradient(loss, [w.value for w in (*branch, *head)])]
    assert len(branch) == 3 and min(gradients[3:]) > 1e-2
    assert (max(gradients[:3]) < 1e-6) == (form == "sum"), gradients


def test_signed_map_averaged_plus_bias_equals_logits():
    classifier = make(head={"name": "dense", "form": "signed"})
    outputs = arrays(classifier(X))
    bias = classifier.get_layer("head").get_weights()[1]
    np.testing.assert_allclose(outputs["cam"].mean(axis=(1, 2)) + bias, outputs["logits"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(outputs["feature_map"].mean(axis=(1, 2)), outputs["features"], rtol=1e-5)


def pool(x):
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def active(x, epsilon=1e-5):
    x = x / np.float32(np.sqrt(1 + epsilon))  # BatchNorm as it starts
    return np.where(x > 0, x, 0.1 * x)


def same(x, epsilon):
    return x


@pytest.mark.parametrize(("original", "epsilon", "later"), [(False, 1e-5, active), (True, 1e-3, same)])
def test_without_residuals_it_is_the_stem_pooled_and_padded(original, epsilon, later):
    """The shortcut of a block's first unit starts from the activated x; in Madry's own code that of block 2 alone."""
    classifier = make(original=original)
    for layer in classifier.layers:
        if layer.name.endswith("conv2"):
            layer.set_weights([0 * w for w in layer.get_weights()])
    names = ("stem", "block2_unit5", "block3_unit5", "block4_unit5", "local4")
    stages = keras.Model(classifier.input, [classifier.get_layer(name).output for name in names])
    stem, block2, block3, block4, local = arrays(stages(X))
    expected = active(stem, epsilon)
    np.testing.assert_allclose(block2, expected, rtol=1e-5, atol=1e-6)
    expected = np.pad(pool(later(expected, epsilon)), [[0, 0], [0, 0], [0, 0], [8, 8]])
    np.testing.assert_allclose(block3, expected, rtol=1e-5, atol=1e-6)
    assert not block3[..., :8].any() and not block3[..., -8:].any() and block3[..., 8:-8].any(axis=(0, 1, 2)).all()
    expected = np.pad(pool(later(expected, epsilon)), [[0, 0], [0, 0], [0, 0], [16, 16]])
    np.testing.assert_allclose(block4, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(local, active(expected, epsilon), rtol=1e-5, atol=1e-6)
    assert stem.min() < 0  # else the slope would not count


def test_the_original_form_has_the_weights_of_the_other_and_its_own_epsilon_throughout():
    original, other = make(attention=(3, 4), original=True), make(attention=(3, 4))
    assert not same_weights(original, other) and original.count_params() == other.count_params()
    norms = [layer for layer in original.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 33 and {(n.momentum, n.epsilon) for n in norms} == {(0.9, 1e-3)}


def test_a_unit_by_hand():
    """y = x + conv(act(BN(conv(act(BN(x)))))), and from the activated x in a block's first unit."""
    classifier = make()
    for unit, shared in (("block2_unit1", True), ("block2_unit2", False)):
        source = "stem" if shared else "block2_unit1"
        x, y = arrays(
            keras.Model(classifier.input, [classifier.get_layer(source).output, classifier.get_layer(unit).output])(X)
        )
        inner = keras.ops.conv(active(x), classifier.get_layer(f"{unit}_conv1").get_weights()[0], padding="same")
        outer = keras.ops.conv(
            active(np.array(inner)),
            classifier.get_layer(f"{unit}_conv2").get_weights()[0],
            padding="same",
        )
        np.testing.assert_allclose(y, (active(x) if shared else x) + np.array(outer), rtol=1e-3, atol=1e-3)


def test_images_are_standardized_each_by_itself():
    classifier = make(attention=(4,))
    assert isinstance(classifier.get_layer("standardize"), Standardize)
    # Contrast and brightness of an image do not count.
    darker = np.stack([0.5 * X[0] + 0.1, X[1]])
    np.testing.assert_allclose(classifier(darker)["logits"], classifier(X)["logits"], rtol=1e-2, atol=1e-2)


def test_sizes_that_do_not_halve():
    classifier = models.get("madry_resnet", input_shape=(9, 7, 1), attention=(3, 4))
    x = np.random.default_rng(0).uniform(0, 1, (2, 9, 7, 1)).astype("float32")
    assert shapes(classifier(x)["attention"]) == {"block3": (5, 4), "block4": (3, 2)}


@pytest.mark.parametrize(
    "options",
    [
        {"attention": (4,), "form": "sum", "original": True},
        {"attention": (3,), "form": "dot", "head": "cosine"},
        {"attention": (3, 4), "width": 2, "head": {"name": "cosine", "scale": None}},
    ],
)
def test_file_round_trip(options, tmp_path):
    classifier = make(**options)
    expected = classifier(X)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    received = loaded(X)
    keras.tree.assert_same_structure(expected, received)
    for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(received), strict=True):
        np.testing.assert_array_equal(a, b)
    for layer in (loaded.get_layer("head"), loaded.get_layer("standardize")):
        assert type(layer) is type(classifier.get_layer(layer.name))


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    outputs = make(attention=(3, 4))(X)
    dtypes = keras.tree.map_structure(lambda t: keras.backend.standardize_dtype(t.dtype), outputs)
    assert dtypes["logits"] == dtypes["features"] == "float32"
    assert set(dtypes["attention"].values()) == {"float32"}
    assert set(dtypes["local_features"].values()) == {"bfloat16"}


def test_blocks_in_any_order_and_as_a_list():
    for blocks in ([3, 4], (4, 3)):
        assert list(make(attention=blocks).output["attention"]) == ["block3", "block4"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, r"Invalid value for `width`: expected an integer of at least 1\. Received: 0"),
        ({"width": 1.5}, "`width`"),
        ({"attention": (2,)}, r"expected the blocks to attend, each once, as \(4,\).*Received: attention=\(2,\)"),
        ({"attention": (4, 4)}, "each once"),
        ({"attention": 4}, r"or \(\) for the plain network. Received: attention=4"),
        ({"attention": "4"}, "`attention`"),
        ({"attention": ("block4",)}, "`attention`"),
        ({"attention": (4,), "form": "linear"}, "Unknown form of attention: expected one of dot, nonlinear, sum"),
        ({"form": "nonlinar"}, "Did you mean 'nonlinear'"),
        ({"attention": (4,), "head": keras.layers.Dense(10)}, "Invalid head: expected a layer that returns a dict"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)
