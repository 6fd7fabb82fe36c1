import keras
import numpy as np
import pytest
from keras import ops

from tfrobust.layers import ClassActivationMap

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(3, 6)).astype("float32")
FEATURE_MAP = RNG.normal(size=(3, 4, 5, 6)).astype("float32")


def with_weights(kernel, bias=None, **kwargs):
    dense = keras.layers.Dense(np.shape(kernel)[1], use_bias=bias is not None, activation="softmax")
    dense.build((None, np.shape(kernel)[0]))
    dense.set_weights([np.array(w, "float32") for w in (kernel, bias) if w is not None])
    return ClassActivationMap(dense, **kwargs)


def test_logits_by_hand_ignore_the_activation():
    head = with_weights([[1.0, -2.0], [3.0, 0.5]], [10.0, 20.0])
    outputs = head(np.array([[1.0, 2.0]], "float32"))
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"], [[17.0, 19.0]])


def test_maps_by_hand():
    # Class 0: max(2*1, 0) + max(-3*2, 0) = 2 and 2 - 6 = -4; class 1: max(-2, 0) + max(-3*-1, 0) = 3 and -2 + 3 = 1.
    kernel, feature_map = [[1.0, -1.0], [2.0, -1.0]], np.array([2.0, -3.0], "float32").reshape(1, 1, 1, 2)
    features = np.ones((1, 2), "float32")
    for form, expected in {"clipped": [2.0, 3.0], "signed": [-4.0, 1.0]}.items():
        cam = with_weights(kernel, form=form)(features, feature_map=feature_map)["cam"]
        np.testing.assert_allclose(np.ravel(cam), expected)


def test_clipped_equals_the_definition():
    head = ClassActivationMap(units=4)
    cam = head(FEATURES, feature_map=FEATURE_MAP)["cam"]
    kernel = head.get_weights()[0]
    expected = np.maximum(FEATURE_MAP[..., None] * kernel, 0).sum(axis=3)
    assert tuple(cam.shape) == (3, 4, 5, 4)
    np.testing.assert_allclose(cam, expected, atol=1e-5)


def test_signed_map_averaged_plus_bias_equals_logits():
    head = with_weights(RNG.normal(size=(6, 4)), RNG.normal(size=4), form="signed")
    outputs = head(FEATURE_MAP.mean(axis=(1, 2)), feature_map=FEATURE_MAP)
    bias = head.get_weights()[1]
    np.testing.assert_allclose(ops.mean(outputs["cam"], axis=(1, 2)) + bias, outputs["logits"], atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes a gradient by TensorFlow's tape")
def test_grad_cam_is_that_of_the_logit():
    """By its definition: the channels' weights are the mean gradients of the logit; ReLU after their sum."""
    import tensorflow as tf

    head = ClassActivationMap(units=4, form="grad_cam")
    feature_map = tf.constant(FEATURE_MAP)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(feature_map)
        logits = head(tf.reduce_mean(feature_map, axis=(1, 2)))["logits"]
        parts = tf.unstack(logits, axis=-1)
    gradients = [tape.gradient(part, feature_map).numpy().mean(axis=(1, 2), keepdims=True) for part in parts]
    expected = np.stack([np.maximum((FEATURE_MAP * g).sum(-1), 0) for g in gradients], axis=-1)
    cam = head(FEATURE_MAP.mean(axis=(1, 2)), feature_map=FEATURE_MAP)["cam"]
    np.testing.assert_allclose(cam, expected, rtol=1e-4, atol=1e-6)
    assert 0 < (expected == 0).mean() < 1


def test_one_unit_gives_two_logits():
    head = with_weights([[2.0], [-1.0]], [0.5])
    features = np.array([[1.0, 2.0], [3.0, 1.0]], "float32")
    outputs = head(features, feature_map=features.reshape(2, 1, 1, 2))
    np.testing.assert_array_equal(outputs["logits"], [[0.0, 0.5], [0.0, 5.5]])
    np.testing.assert_array_equal(np.reshape(outputs["cam"], (2, 2)), [[0.0, 2.0], [0.0, 6.0]])
    np.testing.assert_allclose(ops.softmax(outputs["logits"])[:, 1], ops.sigmoid(np.array([0.5, 5.5])), rtol=1e-6)


@pytest.mark.parametrize("form", ["clipped", "signed"])
@pytest.mark.parametrize("units", [1, 4])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_map_of_one_class_is_that_of_all_indexed(form, units, dtype):
    head = ClassActivationMap(units=units, form=form)
    label = np.array([1, 0, 1] if units == 1 else [3, 0, 3], dtype)
    every = head(FEATURES, feature_map=FEATURE_MAP)
    own = head(FEATURES, feature_map=FEATURE_MAP, label=label)
    expected = np.stack([np.array(cam)[..., c] for cam, c in zip(every["cam"], label, strict=True)])
    assert tuple(own["cam"].shape) == (3, 4, 5) and np.abs(expected).max() > 0.1
    np.testing.assert_allclose(own["cam"], expected, atol=1e-6)
    np.testing.assert_array_equal(own["logits"], every["logits"])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts the tensors of a TensorFlow graph")
@pytest.mark.parametrize("form", ["clipped", "signed"])
def test_map_of_one_class_never_makes_the_others(form):
    import tensorflow as tf

    head = ClassActivationMap(units=11, form=form)
    head(FEATURES)
    graph = tf.function(lambda label: head(FEATURES, feature_map=FEATURE_MAP, label=label)["cam"])
    operations = graph.get_concrete_function(tf.TensorSpec((3,), "int32")).graph.get_operations()
    assert not [o for o in operations for t in o.outputs if t.shape.rank and t.shape.rank > 2 and 11 in t.shape]


def test_map_of_one_class_inside_a_model_with_labels_of_any_batch():
    symbols = keras.Input((6,)), keras.Input((None, None, 6)), keras.Input((), dtype="int32")
    head = ClassActivationMap(units=4)
    model = keras.Model(symbols, head(symbols[0], feature_map=symbols[1], label=symbols[2])["cam"])
    label = np.array([2, 1, 0], "int32")
    expected = head(FEATURES, feature_map=FEATURE_MAP, label=label)["cam"]
    np.testing.assert_allclose(model((FEATURES, FEATURE_MAP, label)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("feature_map", "label", "words"),
    [
        (FEATURE_MAP, np.zeros((3, 1), "int32"), r"expected integers of shape \(batch,\)\. Received: shape=\(3, 1\)"),
        (FEATURE_MAP, np.zeros(3, "float32"), r"expected integers.*dtype=float32"),
        (None, np.zeros(3, "int32"), "expected a `feature_map` beside it"),
    ],
)
def test_refuses_labels_without_a_map_or_of_another_kind(feature_map, label, words):
    with pytest.raises(ValueError, match=words):
        ClassActivationMap(units=4)(FEATURES, feature_map=feature_map, label=label)


def test_shares_the_dense_layer():
    dense = keras.layers.Dense(4)
    dense.build((None, 6))
    head = ClassActivationMap(dense)
    assert head(FEATURES) and head.dense is dense
    assert [id(v) for v in head.trainable_variables] == [id(v) for v in dense.trainable_variables]
    dense.kernel.assign(0 * dense.kernel)
    np.testing.assert_array_equal(head(FEATURES)["logits"], np.zeros((3, 4)))


def test_leaves_mixed_precision_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    outputs = ClassActivationMap(units=4)(ops.cast(FEATURES, "bfloat16"), feature_map=ops.cast(FEATURE_MAP, "bfloat16"))
    assert {keras.backend.standardize_dtype(t.dtype) for t in outputs.values()} == {"float32"}


def test_regularizer_of_the_dense_layer_is_a_loss_of_the_head():
    head = ClassActivationMap(keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.5)))
    head(FEATURES)
    np.testing.assert_allclose(head.losses[0], 0.5 * (head.get_weights()[0] ** 2).sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "expected either `dense`"),
        ({"dense": keras.layers.Dense(2), "units": 2}, "expected either `dense`"),
        ({"dense": keras.layers.Flatten()}, "expected a keras.layers.Dense, EinsumDense or Conv2D"),
        ({"units": 3, "form": "clip"}, "expected one of clipped, grad_cam, signed.*Did you mean 'clipped'"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        ClassActivationMap(**arguments)
