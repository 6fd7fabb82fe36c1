"""Each private name of Keras, TensorFlow and KerasTuner has a test, which fails when an upgrade breaks the name."""

import ast
import pathlib

import grpc
import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from keras_tuner import oracles

import tfrobust
from commands import imports
from tfrobust.utils import keras_private

ROOT = pathlib.Path(tfrobust.__file__).parent.parent


def model():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="inner")])
    built = keras.Sequential([keras.Input((3,)), inner])
    built.compile(keras.optimizers.SGD(0.1, use_ema=True), "mse", metrics=["mae"])
    return built


def hooks():
    """Trains and evaluates with each of the hooks, and returns which of them Keras has called."""
    called = set()

    class Trainer(keras_private.TrainerHooks, keras.Sequential):
        def make_function(self, step_function):
            called.add("make_function")
            return super().make_function(step_function)

        def build_from_data(self, iterator, data_batch):
            called.add("build_from_data")
            super().build_from_data(iterator, data_batch)

        def logs_in_order(self, logs):
            called.add("logs_in_order")
            return super().logs_in_order(logs)

        def completed_logs(self, logs):
            called.add("completed_logs")
            return super().completed_logs(logs)

    trainer = Trainer([keras.layers.Dense(1)])
    trainer.compile("sgd", "mse")
    trainer.fit(np.ones((4, 3)), np.ones(4), verbose=0)
    trainer.evaluate(np.ones((4, 3)), np.ones(4), verbose=0)
    return called == {"make_function", "build_from_data", "logs_in_order", "completed_logs"}


def compile_metrics():
    built = model()
    own = keras_private.CompileMetrics(["mse"], None)
    keras_private.set_compile_metrics(built, own)
    return keras_private.compile_metrics(built) is own and own in built.metrics


def resolved_metric():
    labels = keras.KerasTensor((None,))
    return keras_private.get_metric("mse", labels, labels).name == "mse"


def monitored():
    """`ModelCheckpoint` asks an object that stands in the place of the compiled metrics."""
    built = model()
    mean = keras.metrics.Mean(name="rising")
    keras_private.set_direction(mean, "up")
    own = keras_private.CompileMetrics([mean], None)
    own.build(tf.zeros([1]), tf.zeros([1]))
    keras_private.set_compile_metrics(built, own)
    callback = keras.callbacks.EarlyStopping("rising")
    callback.set_model(built)
    callback._set_monitor_op()
    return callback.monitor_op(1.0, 0.0) and not callback.monitor_op(0.0, 1.0)


def measured_function():
    metric = keras.metrics.MeanMetricWrapper(keras.metrics.sparse_top_k_categorical_accuracy, k=3)
    return keras_private.measured_function(metric) == (keras.metrics.sparse_top_k_categorical_accuracy, {"k": 3})


def call_of():
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(2)
    operation, arguments, position = keras_private.call_of(dense(inputs))
    return operation is dense and arguments.keras_tensors[0] is inputs and position == 0


def changed_calls():
    """Calls inside nested models go through the change, in the block alone."""
    built, own = model(), keras.Operation.__call__

    def doubled(operation, compute):
        return (lambda *args, **kwargs: 2 * compute(*args, **kwargs)) if operation.name == "inner" else compute

    x = np.ones((1, 3), "float32")
    with keras_private.changed_calls(doubled):
        changed = built(x)
    return np.allclose(changed, 2 * built(x)) and keras.Operation.__call__ is own


def averages():
    built = model()
    built.optimizer.build(built.trainable_variables)
    pairs = keras_private.weights_and_averages(built.optimizer)
    return [tuple(w.shape) == tuple(a.shape) for w, a in pairs] == [True, True]


def clipped():
    (gradient,) = keras_private.clip_gradients(keras.optimizers.SGD(clipnorm=1.0), [tf.constant([3.0, 4.0])])
    return np.allclose(gradient, [0.6, 0.8])


def element_spec():
    seen = []

    class Trainer(keras_private.TrainerHooks, keras.Sequential):
        def build_from_data(self, iterator, data_batch):
            seen.append(keras_private.element_spec(iterator))
            super().build_from_data(iterator, data_batch)

    trainer = Trainer([keras.layers.Dense(1)])
    trainer.compile("sgd", "mse")
    trainer.fit(
        tf.data.Dataset.from_tensors((np.ones((4, 3), "float32"), np.ones(4, "float32"))), shuffle=False, verbose=0
    )
    x, y = seen[0]
    return (x.shape, y.shape) == ((4, 3), (4,))


def oracle(kind, **options):
    space = keras_tuner.HyperParameters()
    space.Choice("x", [1, 2])
    return kind(objective=keras_tuner.Objective("score", "max"), hyperparameters=space, **options)


def draws_to_the_last():
    drawing = oracle(oracles.RandomSearchOracle)
    usual = drawing._max_collisions
    keras_private.draw_to_the_last(drawing)
    return drawing._max_collisions > usual


def rounds():
    return keras_private.rounds_of(oracle(oracles.HyperbandOracle, max_epochs=3, factor=3)) == [
        [(2, 3)],
        [(3, 1), (1, 3)],
    ]


def chief():
    over = keras_private.chief_service(oracle(oracles.RandomSearchOracle), grpc.server(None))
    return over() is False


CHECKS = {
    "TrainerHooks": hooks,
    "CompileMetrics": compile_metrics,
    "get_metric": resolved_metric,
    "loss_tracker": lambda: keras_private.loss_tracker(model()).name == "loss",
    "direction": lambda: keras_private.direction(keras.metrics.SparseCategoricalAccuracy()) == "up",
    "set_direction": monitored,
    "monitors": lambda: keras_private.monitors(keras.callbacks.EarlyStopping()),
    "measured_function": measured_function,
    "layers_inside": lambda: "inner" in [layer.name for layer in keras_private.layers_inside(model())],
    "call_of": call_of,
    "changed_calls": changed_calls,
    "weights_and_averages": averages,
    "clip_gradients": clipped,
    "element_spec": element_spec,
    "draw_to_the_last": draws_to_the_last,
    "rounds_of": rounds,
    "chief_service": chief,
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_private_name_still_does_what_the_library_needs(name):
    assert CHECKS[name]()


def test_private_names_stand_in_this_module_alone():
    private = {"keras.src", "keras_tuner.src", "tensorflow.python"}
    for path in (path for top in imports.PACKAGES for path in ROOT.glob(f"{top}/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found = [name for name in names if name and any(f"{name}.".startswith(f"{p}.") for p in private)]
            assert not found or path.name == "keras_private.py", f"{path}:{node.lineno} imports {found}"
