"""A script: two logical CPU devices against one. `python replicas.py '{"objective": ..., "norm": ...}' '"refusals"'`.

One process for many cases, for importing TensorFlow takes seconds; one strategy for all, for several in one process can
wait for each other.
"""

import copy
import json
import sys
import tempfile
import types
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import tfrobust  # noqa: E402
from tfrobust.models import heads  # noqa: E402
from tfrobust.training.replicas import clipped  # noqa: E402

ONE = tf.distribute.get_strategy()
TWO = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def images(count):
    x = np.random.default_rng(0).uniform(0, 1, (count, 6, 6, 1)).astype("float32")
    return x, (4 * x[:, :, :3].mean((1, 2, 3)) > 2).astype("int32") + 2 * (x[:, :3].mean((1, 2, 3)) > 0.5)


def dataset(x, y, batch_size):
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size).with_options(options)


def make_trainer(
    strategy,
    objective,
    norm="l2",
    head="dense",
    batch_norm=False,
    attack=None,
    dtype="float32",
    search_dtype="float32",
    ema=False,
    **options,
):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(dtype)
    with strategy.scope():
        inputs = keras.Input((6, 6, 1))
        z = keras.layers.Conv2D(4, 3, padding="same", kernel_regularizer=keras.regularizers.L2(0.01))(inputs)
        if batch_norm:
            z = keras.layers.BatchNormalization(momentum=0.9)(z)
        feature_map = keras.layers.LeakyReLU()(z)
        features = keras.layers.GlobalAveragePooling2D()(feature_map)
        outputs = heads.make(head, 4)(features, feature_map=feature_map)
        classifier = keras.Model(inputs, {**outputs, "features": features, "feature_map": feature_map})
        attack = {"name": "pgd", "eps": 0.5 if norm == "l2" else 0.1, "steps": 3, "norm": norm, **(attack or {})}
        objective = searched_in_float64(objective) if dtype == "float64" else objective
        trainer = tfrobust.AdversarialTrainer(classifier, objective, attack, search_dtype=search_dtype)
        theirs = keras.metrics.SparseCategoricalAccuracy(name="theirs")
        trainer.compile(keras.optimizers.SGD(0.5, use_ema=ema, ema_momentum=0.9), metrics=[theirs], **options)
    return trainer


def searched_in_float64(name):
    """An objective whose inner loss is computed in float64, of a classifier in float64."""
    objective = copy.copy(tfrobust.objectives.get(name))
    inner = objective.inner

    def wide(views):  # what views hand out is float32
        value = inner(types.SimpleNamespace(y=views.y, clean=views.clean.forward(), adv=views.adv.forward()))
        return keras.tree.map_structure(lambda part: tf.cast(part, tf.float32), value)

    objective.inner = wide
    return objective


def trained(strategy, case):
    """34 images in batches of 11, 11, 11, 1: the first is uneven, the last leaves a replica without any."""
    trainer = make_trainer(strategy, **case)
    before = trainer.classifier.get_weights()
    data = dataset(*images(34), batch_size=11)
    history = trainer.fit(data, epochs=2, verbose=0, validation_data=data).history
    after = trainer.classifier.get_weights()
    step = np.concatenate([(b - a).ravel() for a, b in zip(before, after, strict=True)])
    return step, {name: values[-1] for name, values in history.items()}


def agree_with_one(case):
    """Two replicas end where one does, and log the same."""
    one, logs_one = trained(ONE, case)
    two, logs_two = trained(TWO, case)
    error = np.linalg.norm(two - one) / np.linalg.norm(one)
    print(json.dumps(case), f"{error:.1e}", flush=True)
    assert np.linalg.norm(one) > 1e-3, case
    assert error < 1e-5, (case, error)
    assert logs_one.keys() == logs_two.keys(), (logs_one, logs_two)
    for name in logs_one:
        assert abs(logs_one[name] - logs_two[name]) < 1e-4, (case, name, logs_one[name], logs_two[name])


def refused(text, work, trainer):
    before = trainer.classifier.get_weights()
    try:
        work(trainer)
    except ValueError as error:
        assert text in str(error) and "\n" not in str(error), error
        for a, b in zip(before, trainer.classifier.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    else:
        raise AssertionError(f"expected an error with {text!r}")


def refusals():
    x, y = images(6)
    small = "expected a first batch of at least 2 images, one for each replica. Received: 1"
    refused(small, lambda t: t.fit(dataset(x, y, 1), verbose=0), make_trainer(TWO, "madry"))
    refused(small, lambda t: t.fit(x, y, batch_size=1, verbose=0), make_trainer(TWO, "madry"))
    refused(small, lambda t: t.fit(x[:1], y[:1], verbose=0), make_trainer(TWO, "madry"))
    compiled = make_trainer(TWO, "madry", jit_compile=True)
    refused("expected compile(jit_compile=False)", lambda t: t.fit(x, y, verbose=0), compiled)
    accumulating = make_trainer(TWO, "madry")
    with TWO.scope():
        accumulating.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    refused("gradient_accumulation_steps=2", lambda t: t.fit(x, y, verbose=0), accumulating)
    several = make_trainer(TWO, "madry", steps_per_execution=2)
    refused("expected steps_per_execution=1. Received: 2", lambda t: t.fit(x, y, verbose=0), several)


def containers():
    """Data without static shapes and dicts of one image are the batches that they hold, on replicas too."""
    x, y = images(24)
    plain, ends = dataset(x, y, 12), []
    bare = plain.map(lambda *parts: tf.numpy_function(lambda *arrays: arrays, parts, [tf.float32, tf.int64]))
    for data in (plain, plain.map(lambda x, y: ({"image": x}, y)), bare):
        trainer = make_trainer(TWO, "madry")
        trainer.fit(data, epochs=2, verbose=0)
        trainer.evaluate(data, verbose=0)
        assert trainer._batches.numpy() == 4
        ends.append(trainer.classifier.get_weights())
    for end in ends[1:]:
        for a, b in zip(end, ends[0], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    with tempfile.TemporaryDirectory() as folder:
        trainer.save_weights(f"{folder}/all.weights.h5")
        another = make_trainer(TWO, "madry")
        another.load_weights(f"{folder}/all.weights.h5")
        assert another._batches.numpy() == 4


def statistics():
    """The moving mean is that of the global batch, on every replica; one without images has no say."""
    moving = []
    for strategy in (ONE, TWO):
        trainer = make_trainer(strategy, "standard", batch_norm=True)
        trainer.optimizer.learning_rate = 0.0  # statistics alone
        trainer.fit(dataset(*images(34), batch_size=11), verbose=0)
        layer = next(v for v in trainer.classifier.layers if isinstance(v, keras.layers.BatchNormalization))
        moving.append(strategy.experimental_local_results(layer.moving_mean.value))
    for replica in moving[1]:
        np.testing.assert_allclose(replica.numpy(), moving[0][0].numpy(), rtol=1e-4)
    np.testing.assert_array_equal(*(replica.numpy() for replica in moving[1]))


def own_rows():
    """Where an objective couples the rows of a batch, each replica couples its own: the mean of two halves' steps."""
    x, y = images(24)
    for objective in ("feature_scatter", "adv_interpolation"):
        steps = []
        for strategy, rows in ((TWO, slice(24)), (ONE, slice(12)), (ONE, slice(12, 24))):
            trainer = make_trainer(strategy, objective, attack={"start": "none"})
            before = trainer.classifier.get_weights()
            trainer.fit(dataset(x[rows], y[rows], 24), verbose=0)
            after = trainer.classifier.get_weights()
            steps.append(np.concatenate([(b - a).ravel() for a, b in zip(before, after, strict=True)]))
        np.testing.assert_allclose(steps[0], (steps[1] + steps[2]) / 2, atol=1e-5 * np.abs(steps[0]).max())


def averaged():
    """The averages of weights that are validated, and left in the model at the end, are those of one device."""
    ends = []
    for strategy in (ONE, TWO):
        trainer = make_trainer(strategy, "madry", ema=True)
        data = dataset(*images(34), batch_size=11)
        options = {"validation_data": data, "callbacks": [tfrobust.callbacks.AveragedWeights()]}
        logs = trainer.fit(data, epochs=2, verbose=0, **options).history
        plain = trainer.evaluate(data, verbose=0, return_dict=True)
        assert abs(logs["val_loss"][-1] - plain["loss"]) < 1e-6
        ends.append((trainer.classifier.get_weights(), logs["val_loss"]))
    for a, b in zip(*(keras.tree.flatten(end) for end in ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def resumed():
    """One epoch, a restored checkpoint and another epoch end bit for bit where two epochs do."""
    ends = []
    with tempfile.TemporaryDirectory() as folder:
        for parts in ((2,), (1, 2)):
            for epochs in parts:
                trainer = make_trainer(TWO, "madry", batch_norm=True)
                checkpoints = tfrobust.callbacks.Checkpoints(trainer, f"{folder}/{len(parts)}")
                first = checkpoints.restore()
                data = tfrobust.data.load("digits", "validation", shuffle=True, batch_size=61, first_epoch=first)
                data = data.map(lambda x, y: (x[:, 1:7, 1:7], y % 4))
                trainer.fit(data, initial_epoch=first, epochs=epochs, callbacks=[checkpoints], verbose=0)
            ends.append(trainer.classifier.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


def order():
    """`tfrobust.data` hands out the same batches, pass by pass, whether an epoch is one batch or several."""
    for batch_size in (50, 200):
        weights = []
        for strategy in (ONE, TWO):
            trainer = make_trainer(strategy, "standard")
            data = tfrobust.data.load("digits", "validation", shuffle=True, batch_size=batch_size, augment={"pad": 1})
            trainer.fit(data.map(lambda x, y: (x[:, 1:7, 1:7], y % 4)), epochs=3, verbose=0)
            weights.append(np.concatenate([w.ravel() for w in trainer.classifier.get_weights()]))
        np.testing.assert_allclose(*weights, atol=1e-5)


def clipped_step(strategy, gradients, kind, wrap):
    with strategy.scope():
        weight = keras.Variable([0.0, 0.0])
        optimizer = wrap(keras.optimizers.SGD(1.0, **{kind: 2.0}))
        optimizer.build([weight])

    @tf.function
    def update():
        def replica():
            index = tf.distribute.get_replica_context().replica_id_in_sync_group
            scaled = optimizer.scale_loss(tf.gather(tf.constant(gradients), index))
            optimizer.apply_gradients(zip(clipped([scaled], optimizer), [weight], strict=True))

        strategy.run(replica)

    update()
    return weight.numpy()


def clipping():
    """What is clipped is the sum over the replicas, scaled or not."""
    parts = np.array([[3.0, -4.0], [0.5, 0.1]], "float32")  # their sum is (3.5, -3.9)
    for kind in ("clipnorm", "global_clipnorm", "clipvalue"):
        for wrap in (lambda optimizer: optimizer, keras.optimizers.LossScaleOptimizer):
            one = clipped_step(ONE, parts.sum(axis=0, keepdims=True), kind, wrap)
            two = clipped_step(TWO, parts, kind, wrap)
            assert np.abs(one).max() > 1, (kind, one)
            np.testing.assert_allclose(two, one, rtol=1e-5, err_msg=kind)


def shared_batches():
    """Two replicas share every batch of our data and see the same epochs."""
    options = {"batch_size": 99, "augment": {"pad": 1}}
    with TWO.scope():
        distributed = TWO.experimental_distribute_dataset(tfrobust.data.load("digits", **options))
    for epoch in range(2):
        next(iter(distributed))  # the look that Keras takes
        alone = tfrobust.data.load("digits", first_epoch=epoch, **options)
        for (x, y), (expected_x, expected_y) in zip(distributed, alone, strict=True):
            xs, ys = map(TWO.experimental_local_results, (x, y))
            assert len(ys[0]) == (len(expected_y) + 1) // 2
            np.testing.assert_array_equal(tf.concat(xs, 0), expected_x)
            np.testing.assert_array_equal(tf.concat(ys, 0), expected_y)


def command():
    """`tfrobust train` by a strategy that a user has registered: phases, files, and on from where it was."""
    from commands import strategies
    from trainers import train
    from trainers.configs import digits

    strategies.register(two)
    config = digits.get_config("madry").to_dict()
    config["strategy"] = "two"
    config["attack"]["steps"] = 1
    config["data"]["batch_size"] = 256
    config["evaluation"] = {"attacks": ["fgsm"], "eps": 0.15, "norm": "linf"}
    config["phases"] = ({"epochs": 1}, {"epochs": 1, "frozen": ("head",)})
    with tempfile.TemporaryDirectory() as folder:
        report = train.run(config, folder)
        kept = Path(folder, "classifier.keras").read_bytes()
        assert train.run(config, folder).robust_accuracy == report.robust_accuracy
        assert Path(folder, "classifier.keras").read_bytes() == kept
        assert Path(folder, "saved_model/1/saved_model.pb").exists()


def two():
    return TWO


def upstream():
    """Plain Keras still averages first batches of different sizes; if it does not: see `build_from_data`."""
    with TWO.scope():
        model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    try:
        model.fit(dataset(*images(33), batch_size=11), verbose=0)
    except tf.errors.InvalidArgumentError:
        return
    raise AssertionError("tfrobust/training/distribution.py: `build_from_data` may go")


def main():
    warnings.filterwarnings("ignore")  # advice on small networks and short runs
    for case in map(json.loads, sys.argv[1:]):
        globals()[case]() if isinstance(case, str) else agree_with_one(case)


if __name__ == "__main__":
    main()
