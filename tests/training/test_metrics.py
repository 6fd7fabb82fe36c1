"""Compiled metrics mean what they mean in Keras: plain Keras with the same weights is asked as well."""

import keras
import numpy as np
import pytest
from keras import metrics as M

import tfrobust
from tfrobust import attacks
from tfrobust.classifiers import as_given
from tfrobust.trainer import AdversarialTrainer

pytestmark = pytest.mark.filterwarnings("ignore:The moving statistics")


def mean_prediction(y_true, y_pred):
    return keras.ops.mean(keras.ops.cast(y_pred, "float32"), axis=-1)


def make_model(units=4, activation="softmax", apart=False):
    """A network whose scores are far apart, so that probabilities, logits and one column are easily told apart."""
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    wide = keras.initializers.RandomNormal(stddev=5.0, seed=1)
    if apart:
        x = keras.layers.Dense(units, kernel_initializer=wide)(x)
        return keras.Model(inputs, keras.layers.Activation(activation)(x))
    return keras.Model(inputs, keras.layers.Dense(units, activation, kernel_initializer=wide)(x))


def make_trainer(classifier, objective="madry", steps=2, **options):
    trainer = AdversarialTrainer(classifier, objective, attacks.pgd(eps=0.1, steps=steps))
    trainer.compile(keras.optimizers.SGD(0.0), **options)
    return trainer


# Eager steps: a few of them take less time than the tracing of their graph, and metrics are many operations.
EAGER = {"run_eagerly": True}


def of_probabilities():
    return [
        "accuracy",
        M.Precision(name="precision"),
        M.Recall(name="recall"),
        M.AUC(name="auc"),
        M.F1Score(name="f1"),
        M.CategoricalCrossentropy(name="cross_entropy"),
        M.TopKCategoricalAccuracy(2, name="top2"),
        M.MeanSquaredError(name="error"),
        M.CosineSimilarity(axis=0, name="similarity"),
        "mse",
        mean_prediction,
    ]


def of_integers(from_logits=False):
    return [
        "acc",
        M.SparseCategoricalCrossentropy(from_logits=from_logits, name="cross_entropy"),
        M.SparseTopKCategoricalAccuracy(2, name="top2"),
        M.SparseCategoricalAccuracy(name="hits"),
        mean_prediction,
    ]


def of_one_column(from_logits=False):
    return [
        "acc",
        M.Precision(thresholds=0.0 if from_logits else 0.3, name="precision"),
        M.AUC(from_logits=from_logits, name="auc"),
        M.BinaryCrossentropy(from_logits=from_logits, name="cross_entropy"),
        M.BinaryAccuracy(threshold=0.3, name="hits"),
        M.FalsePositives(name="false_positives") if not from_logits else "mae",
        mean_prediction,
    ]


MODELS = {
    "softmax": (lambda: make_model(), of_probabilities, "one_hot"),
    "softmax apart": (lambda: make_model(apart=True), of_integers, "integers"),
    "two classes": (lambda: make_model(2), of_integers, "integers"),
    "logits": (lambda: make_model(activation=None), lambda: of_integers(from_logits=True), "column"),
    "sigmoid": (lambda: make_model(1, "sigmoid"), of_one_column, "floats"),
    "sigmoid apart": (lambda: make_model(1, "sigmoid", apart=True), of_one_column, "column"),
    "one logit": (lambda: make_model(1, None), lambda: of_one_column(from_logits=True), "column"),
}


def assert_equal(ours, theirs):
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def labels_of(form, y, classes):
    y = y % classes
    return {
        "one_hot": np.eye(classes, dtype="float32")[y],
        "integers": y,
        "column": y[:, None],
        "floats": y[:, None].astype("float32"),
    }[form]


@pytest.mark.parametrize("name", MODELS)
def test_values_are_those_of_plain_keras(name, batch):
    make, metrics, form = MODELS[name]
    model = make()
    x, y = batch[0], labels_of(form, batch[1], max(2, model.output_shape[-1]))
    weight = np.linspace(0.1, 2.0, len(x)).astype("float32")

    options = {} if name == "logits" else EAGER  # one of them in a graph

    def weighted():
        return ["accuracy", M.MeanMetricWrapper(mean_prediction, name="weighted_mean")]

    def evaluated(model):
        return model.evaluate(x, y, batch_size=7, sample_weight=weight, return_dict=True, verbose=0)

    trainer = make_trainer(tfrobust.expose(model), metrics=metrics(), weighted_metrics=weighted(), **options)
    model.compile("sgd", mean_prediction, metrics=metrics(), weighted_metrics=weighted(), **options)
    theirs, ours = evaluated(model), evaluated(trainer)
    del theirs["loss"]  # ours is the objective's
    assert_equal(ours, theirs)
    assert {f"robust_{name}" for name in theirs} <= set(ours)


def test_the_form_of_the_model_outlives_files_copies_and_preprocessing(tmp_path):
    logits = np.array([[0.0, 1.5], [0.0, -0.5]], "float32")
    sigmoid = 1 / (1 + np.exp(-logits[:, 1:]))
    scale = keras.layers.Rescaling(2.0)
    classifier = tfrobust.expose(make_model(1, "sigmoid"), preprocess=scale)
    inputs = keras.Input((6, 6, 1))
    nested = tfrobust.expose(keras.Model(inputs, make_model(1, "sigmoid")(keras.layers.Rescaling(2.0)(inputs))))
    classifier.save(tmp_path / "x.keras")
    for same in (
        classifier,
        nested,
        tfrobust.expose(nested, preprocess=scale),
        keras.models.clone_model(classifier),
        keras.models.load_model(tmp_path / "x.keras"),
    ):
        np.testing.assert_allclose(as_given(same, logits), sigmoid, rtol=1e-6)
        assert tfrobust.classifiers.head_of(same).dense.units == 1  # what remembers the form is not the head
    np.testing.assert_array_equal(as_given(tfrobust.models.get("digits"), logits), logits)


SIDES = {"standard": {""}, "madry": {"robust_"}, "trades": {"", "robust_"}}


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        *((objective, EAGER) for objective in SIDES),
        ("trades", {}),  # one objective of both sides tells the options apart
        *(pytest.param(objective, {}, marks=pytest.mark.slow) for objective in ("standard", "madry")),
        pytest.param("trades", {"jit_compile": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_names_say_the_side(objective, options, batch):
    """With a learning rate of 0 and all images in one batch, training and validation see the same predictions."""
    x, y = batch
    sides = SIDES[objective]
    metrics = [mean_prediction, M.SparseCategoricalAccuracy(name="hits"), M.SparseCategoricalCrossentropy(name="ce")]
    trainer = make_trainer(tfrobust.expose(make_model()), objective, metrics=metrics, **options)
    logs = trainer.fit(x, y, batch_size=20, validation_data=(x, y), verbose=0).history
    for name in ("mean_prediction", "hits", "ce", "accuracy"):
        assert {side for side in ("", "robust_") if side + name in logs} == sides
        assert {f"val_{name}", f"val_robust_{name}"} <= set(logs)
        if "" in sides:
            assert logs[name] == pytest.approx(logs[f"val_{name}"], abs=1e-5)
    assert logs["val_robust_hits"] == pytest.approx(logs["val_robust_accuracy"], abs=1e-6)
    assert logs["val_hits"] == pytest.approx(logs["val_accuracy"], abs=1e-6)
    assert logs["val_robust_ce"] > logs["val_ce"]


def test_a_metric_that_makes_its_state_late_is_absent_until_it_has_one(batch):
    x, y = batch[0], np.eye(4, dtype="float32")[batch[1]]
    trainer = make_trainer(tfrobust.expose(make_model()), metrics=[M.F1Score(name="f1")])
    history = trainer.fit(x, y, epochs=2, validation_data=(x, y), verbose=0).history
    assert "f1" not in history
    assert {"robust_f1", "val_f1", "val_robust_f1"} <= set(history)


def test_a_share_measures_its_clean_and_its_attacked_rows(batch):
    x, y = batch
    trainer = make_trainer(
        tfrobust.expose(make_model()),
        {"name": "joint", "share": 0.25},
        metrics=[M.SparseCategoricalAccuracy(name="hits")],
        **EAGER,
    )
    logs = trainer.train_on_batch(x, y, return_dict=True)
    assert logs["hits"] == pytest.approx(logs["accuracy"], abs=1e-6)
    assert logs["robust_hits"] == pytest.approx(logs["robust_accuracy"], abs=1e-6)


def test_class_weights_weigh_the_weighted_metrics(batch):
    x, y = batch
    model = make_model()
    keep = {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5, 3: 0.0}, "batch_size": 7, "shuffle": False, "verbose": 0}
    options = {"weighted_metrics": ["accuracy", mean_prediction], **EAGER}
    trainer = make_trainer(tfrobust.expose(model), "standard", **options)
    ours = trainer.fit(x, y, **keep).history
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", **options)
    theirs = model.fit(x, y, **keep).history
    assert_equal(ours, theirs)


def test_names_that_repeat_are_numbered_as_in_keras(batch):
    x, y = batch[0], np.eye(4, dtype="float32")[batch[1]]

    def options():
        return {
            "metrics": ["accuracy", M.Precision(name="p"), M.Precision(0.9, name="p")],
            "weighted_metrics": ["accuracy", M.Precision(name="p")],
            **EAGER,
        }

    model = make_model()
    trainer = make_trainer(tfrobust.expose(model), **options())
    model.compile("sgd", "mse", **options())
    weighed = {"sample_weight": np.arange(20.0), "return_dict": True, "verbose": 0}
    theirs, ours = model.evaluate(x, y, **weighed), trainer.evaluate(x, y, **weighed)
    assert set(theirs) == {"loss", "accuracy", "p", "p_1", "weighted_accuracy", "weighted_p"}
    del theirs["loss"]
    assert_equal(ours, theirs)
    assert {f"robust_{name}" for name in theirs} <= set(ours)


def test_the_loss_comes_first(batch):
    x, y = batch
    metrics = ["accuracy", M.SparseTopKCategoricalAccuracy(2, name="top2")]
    trainer = make_trainer(tfrobust.expose(make_model()), metrics=metrics, **EAGER)
    expected = ["loss", "accuracy", "top2", "robust_accuracy", "robust_top2", "adversarial_cross_entropy"]
    assert trainer.metrics_names == expected
    logs = trainer.evaluate(x, y, return_dict=True, verbose=0)
    assert trainer.evaluate(x, y, verbose=0) == [logs[name] for name in expected]
    assert trainer.test_on_batch(x, y) == pytest.approx([logs[name] for name in expected], abs=1e-5)
    logs = trainer.train_on_batch(x, y, return_dict=True)
    assert trainer.train_on_batch(x, y)[0] == pytest.approx(logs["loss"], rel=0.2)  # another start of the search
    assert [name for name in expected if name in logs] == ["loss", "robust_accuracy", "robust_top2", expected[-1]]
    assert make_trainer(tfrobust.expose(make_model()), "standard").metrics_names[:2] == ["loss", "accuracy"]


def test_a_metric_that_cannot_be_made_twice_is_of_the_clean_side_and_that_is_said(batch):
    x, y = batch

    class AtLeast(M.Mean):
        def __init__(self, least):
            super().__init__(name="at_least")
            self.least = least

        def update_state(self, y_true, y_pred, sample_weight=None):
            return super().update_state(keras.ops.cast(keras.ops.max(y_pred, -1) >= self.least, "float32"))

    with pytest.warns(UserWarning, match="'at_least' is logged for clean predictions only"):
        trainer = make_trainer(tfrobust.expose(make_model()), metrics=[AtLeast(0.5), mean_prediction], **EAGER)
    logs = trainer.evaluate(x, y, return_dict=True, verbose=0)
    assert {"at_least", "mean_prediction", "robust_mean_prediction"} <= set(logs)
    assert "robust_at_least" not in logs


@pytest.mark.parametrize("name", ["loss", "kl_divergence", "robust_accuracy"])
def test_names_of_the_trainers_own_are_refused(name):
    with pytest.raises(ValueError, match=rf"Invalid names of metrics: .* Received: \['{name}'\]"):
        make_trainer(tfrobust.expose(make_model()), "trades", metrics=[M.MeanSquaredError(name=name)])
