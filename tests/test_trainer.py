"""The Keras contract of the trainer, and its step against a hand-written one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import attacks, losses, objectives
from tfrobust.trainer import AdversarialTrainer

# Some runs here are far too short for BatchNorm's statistics; one test below asks for the warning.
pytestmark = pytest.mark.filterwarnings("ignore:The moving statistics")

PGD = {"eps": 0.1, "steps": 3}


def make_trainer(classifier, objective="madry", attack=None, optimizer=None, compile_options=None, **options):
    trainer = AdversarialTrainer(classifier, objective, attack or attacks.pgd(**PGD), **options)
    trainer.compile(optimizer=optimizer or keras.optimizers.SGD(0.1), **(compile_options or {}))
    return trainer


def make_eager_trainer(*arguments, compile_options=None, **options):
    """A trainer for a few steps, which take less time than the tracing of their graph.

    `test_compile_options_give_the_same_weights` shows that the weights are those of a graph.
    """
    options["compile_options"] = {"run_eagerly": True, **(compile_options or {})}
    return make_trainer(*arguments, **options)


def weights(model):
    return [w.copy() for w in model.get_weights()]


def assert_same(a, b, **tolerance):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, **(tolerance or {"atol": 1e-6}))


# What a step does


def test_standard_training_is_keras_training(make_classifier, batch):
    x, y = batch
    ours, plain = make_classifier(), make_classifier()
    plain.set_weights(ours.get_weights())
    trainer = make_trainer(ours, "standard")
    trainer.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    keras_model = keras.Model(plain.input, plain.output["logits"])
    keras_model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    keras_model.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    assert_same(weights(ours), weights(plain))


@pytest.mark.parametrize("name", ["madry", "trades", "joint", "feature_regularization"])
def test_a_step_is_the_gradient_of_its_terms(name, make_classifier, batch):
    """One SGD step, against a tape over the terms on adversaries that are searched here."""
    x, y = batch
    classifier = make_classifier()
    start = weights(classifier)
    objective = objectives.get(name)
    attack = attacks.pgd(eps=0.1, steps=3, start="none")  # no noise, so that the search can be repeated here
    if name == "trades":  # from the image itself its gradient is zero: search from a fixed shift
        attack = attacks.pgd(eps=0.1, steps=3, start=lambda ball, v, noise: ball.project(v + 0.01, v))
    trainer = make_eager_trainer(classifier, objective, attack)
    trainer.fit(x, y, batch_size=20, shuffle=False, verbose=0)
    stepped = weights(classifier)

    classifier.set_weights(start)
    x_adv = attack.maximizing(objective.inner)(classifier, x, y)
    with tf.GradientTape() as tape:
        views = tfrobust.Views(y=y, x=x, x_adv=x_adv, clean=classifier(x), adv=classifier(x_adv))
        total = sum(term.weight * tf.reduce_mean(term.loss(views)) for term in objective.outer.values())
    gradients = tape.gradient(total, classifier.trainable_variables)
    assert_same(stepped, [w - 0.1 * g.numpy() for w, g in zip(start, gradients, strict=True)], atol=1e-5)


def test_trades_with_beta_zero_is_standard_training(make_classifier, batch):
    x, y = batch
    a, b = make_classifier(), make_classifier()
    b.set_weights(a.get_weights())
    make_eager_trainer(a, objectives.trades(beta=0.0)).fit(x, y, batch_size=5, shuffle=False, verbose=0)
    make_eager_trainer(b, "standard").fit(x, y, batch_size=5, shuffle=False, verbose=0)
    assert_same(weights(a), weights(b))


@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_half_batch_joint_reads_each_row_once(beta, make_classifier, batch):
    """Clean terms are over the first half, adversarial ones over the second: other images."""
    x, y = batch
    classifier = make_classifier(batch_norm=False)
    start = weights(classifier)
    attack = attacks.pgd(eps=0.1, steps=3, start="none")
    objective = objectives.joint(0.3, 0.7, share=0.5, beta=beta)
    make_eager_trainer(classifier, objective, attack).fit(x, y, batch_size=20, shuffle=False, verbose=0)
    stepped = weights(classifier)
    classifier.set_weights(start)
    x_adv = attack.maximizing(objective.inner)(classifier, x[10:], y[10:])
    with tf.GradientTape() as tape:
        clean = losses.cross_entropy(classifier(x[:10])["logits"], y[:10])
        attacked = losses.cross_entropy(classifier(x_adv)["logits"], y[10:])
        total = 0.3 * tf.reduce_mean(clean) + 0.7 * tf.reduce_mean(attacked)
        norms = [tf.norm(classifier(part)["features"], axis=-1) for part in (x[:10], x_adv)]
        total += beta * sum(map(tf.reduce_mean, norms))
    gradients = tape.gradient(total, classifier.trainable_variables)
    assert_same(stepped, [w - 0.1 * g.numpy() for w, g in zip(start, gradients, strict=True)], atol=1e-5)


def test_a_term_of_both_sides_is_refused_with_a_share(make_classifier, batch):
    x, y = batch
    trades = objectives.trades()
    objective = tfrobust.Objective(objectives.madry().inner, trades.outer, share=0.5)
    with pytest.raises(ValueError, match="expected a loss that reads one side"):
        make_trainer(make_classifier(), objective).fit(x, y, verbose=0)


def test_sample_weight_scales_the_loss_of_an_example(make_classifier, batch):
    x, y = batch
    a, b = make_classifier(), make_classifier()
    b.set_weights(a.get_weights())
    sample_weight = np.r_[np.full(10, 2.0), np.zeros(10)].astype("float32")
    options = {"attack": attacks.pgd(eps=0.1, steps=3, start="none")}
    make_eager_trainer(a, **options).fit(x, y, batch_size=20, sample_weight=sample_weight, shuffle=False, verbose=0)
    make_eager_trainer(b, **options).fit(x[:10], y[:10], batch_size=10, shuffle=False, verbose=0)
    assert_same(weights(a), weights(b), atol=1e-5)


def test_regularizers_join_the_loss(make_classifier, batch):
    x, y = batch
    classifier = make_classifier(regularizer=keras.regularizers.L2(0.5))
    history = (
        make_eager_trainer(classifier, optimizer=keras.optimizers.SGD(0.0)).fit(x, y, batch_size=20, verbose=0).history
    )
    kernel = next(w for w in classifier.trainable_variables if "kernel" in w.path).numpy()
    penalty = history["loss"][0] - history["adversarial_cross_entropy"][0]
    np.testing.assert_allclose(penalty, 0.5 * (kernel**2).sum(), rtol=1e-4)


def test_activity_regularizers_are_those_of_the_update(batch):
    """The search's forward passes leave activity losses behind too; they belong to another graph."""
    x, y = batch
    inputs = keras.Input((6, 6, 1))
    f = keras.layers.Flatten()(inputs)
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4, activity_regularizer="l2")(f)})
    history = make_trainer(classifier).fit(x, y, batch_size=20, verbose=0).history
    assert history["loss"][0] > history["adversarial_cross_entropy"][0]


def test_weight_and_eps_schedules_are_called_with_the_fractional_epoch(make_classifier, batch):
    x, y = batch
    ramp = keras.optimizers.schedules.PolynomialDecay(0.0, decay_steps=2, end_learning_rate=2.0)
    objective = tfrobust.Objective(
        objectives.madry().inner,
        {"one": tfrobust.Term(lambda views: 0 * losses.cross_entropy(views.adv["logits"], views.y) + 1.0, ramp)},
    )
    trainer = make_trainer(make_classifier(), objective)
    history = trainer.fit(x, y, batch_size=5, epochs=3, verbose=0).history
    # Four steps an epoch at epochs 0, 1/4, 1/2, 3/4, ...: the mean weight is 3/8, then 11/8, then 2.
    np.testing.assert_allclose(history["loss"], [3 / 8, 11 / 8, 2.0], rtol=1e-5)


@pytest.mark.parametrize("in_training_mode", [False, True])
def test_the_search_leaves_statistics_and_seeds_alone(in_training_mode, make_classifier, batch):
    x, y = batch
    classifier = make_classifier(batch_norm=True, dropout=0.3)
    plain = make_classifier(batch_norm=True, dropout=0.3)
    trainer = make_eager_trainer(
        classifier, optimizer=keras.optimizers.SGD(0.0), search_in_training_mode=in_training_mode
    )
    state = [v for v in classifier.non_trainable_variables if "seed" in v.path or "moving" in v.path]
    for variable, other in zip(classifier.variables, plain.variables, strict=True):
        other.assign(variable)
    trainer.fit(x, y, batch_size=20, epochs=1, shuffle=False, verbose=0)
    # The update itself makes one forward pass, of the adversarial batch; so does the plain model here, of the clean.
    plain(x, training=True)
    plain_state = [v for v in plain.non_trainable_variables if "seed" in v.path or "moving" in v.path]
    assert len(state) == 3
    for ours, theirs in zip(state, plain_state, strict=True):
        if "seed" in ours.path:
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())  # one draw
        else:
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=0.05)
            assert np.abs(ours.numpy() - theirs.numpy()).max() > 0  # adversarial statistics, not clean ones


def test_training_mode_search_attacks_another_graph(make_classifier, batch):
    x, y = batch
    results = []
    for mode in (False, True):
        keras.utils.set_random_seed(1)
        classifier = make_classifier(batch_norm=True)
        trainer = make_eager_trainer(classifier, search_in_training_mode=mode)
        trainer.fit(x, y, batch_size=20, verbose=0)
        results.append(np.concatenate([w.ravel() for w in weights(classifier)]))
    assert np.abs(results[0] - results[1]).max() > 1e-6


def test_frozen_layers_do_not_move(make_classifier, batch):
    x, y = batch
    classifier = make_classifier()
    classifier.layers[-1].trainable = False
    head = weights(classifier.layers[-1])
    body = weights(classifier.layers[1])
    make_eager_trainer(classifier).fit(x, y, verbose=0)
    assert_same(weights(classifier.layers[-1]), head, atol=0)
    assert np.abs(weights(classifier.layers[1])[0] - body[0]).max() > 0


def test_same_seed_same_weights_other_seed_others(make_classifier, batch):
    x, y = batch
    results = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(5)
        classifier = make_classifier(dropout=0.2)
        make_eager_trainer(classifier, seed=seed).fit(x, y, batch_size=10, epochs=2, verbose=0)
        results.append(np.concatenate([w.ravel() for w in weights(classifier)]))
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0] - results[2]).max() > 0


# What is logged


def test_logs_hold_what_the_step_computes(make_classifier, batch):
    x, y = batch
    expected = {
        "standard": {"accuracy", "clean_cross_entropy"},
        "madry": {"robust_accuracy", "adversarial_cross_entropy"},
        "trades": {"accuracy", "robust_accuracy", "clean_cross_entropy", "kl_divergence"},
    }
    for name, keys in expected.items():
        history = make_eager_trainer(make_classifier(), name).fit(x, y, validation_data=(x, y), verbose=0).history
        train = {key for key in history if not key.startswith("val_")}
        assert train == keys | {"loss"}
        validation = {key.removeprefix("val_") for key in history if key.startswith("val_")}
        assert validation == keys | {"loss", "accuracy", "robust_accuracy"}


def test_validation_figures_are_those_of_the_classifier(make_classifier, batch):
    x, y = batch
    classifier = make_classifier()
    trainer = make_trainer(
        classifier, objectives.trades(0.01), attacks.pgd(eps=0.3, steps=3), optimizer=keras.optimizers.Adam(0.02)
    )
    trainer.fit(x, y, batch_size=10, epochs=20, verbose=0)
    logs = trainer.evaluate(x, y, batch_size=7, verbose=0, return_dict=True)
    logits = classifier(x)["logits"]
    np.testing.assert_allclose(logs["accuracy"], losses.correct(logits, y).numpy().mean(), atol=1e-6)
    np.testing.assert_allclose(logs["clean_cross_entropy"], losses.cross_entropy(logits, y).numpy().mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], logs["clean_cross_entropy"] + 0.01 * logs["kl_divergence"], rtol=1e-5)
    assert logs["robust_accuracy"] < logs["accuracy"]
    assert trainer.evaluate(x, y, batch_size=7, verbose=0, return_dict=True) == logs


def test_validation_is_by_cross_entropy_whatever_the_objective(make_classifier, batch):
    """An inner loss that goes nowhere trains on clean images: validation must not believe it."""
    x, y = batch
    blind = tfrobust.Objective(lambda views: 0 * views.adv["logits"][:, 0], objectives.madry().outer)
    attack = attacks.pgd(eps=0.2, steps=3, start="none")
    trainer = make_trainer(make_classifier(), blind, attack, optimizer=keras.optimizers.Adam(0.02))
    history = trainer.fit(x, y, epochs=40, validation_data=(x, y), validation_freq=40, verbose=0).history
    assert history["robust_accuracy"][-1] > 0.9
    assert history["val_robust_accuracy"][-1] < 0.5


def test_compiled_metrics_get_labels_and_logits(make_classifier, batch):
    x, y = batch
    seen = []

    class Recorder(keras.metrics.Metric):
        def update_state(self, y_true, y_pred, sample_weight=None):
            seen.append((y_true.shape, y_pred.shape))

        def result(self):
            return 1.0

    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2"), Recorder(name="seen")]
    trainer = make_eager_trainer(make_classifier(), compile_options={"metrics": metrics})
    history = trainer.fit(x, y, validation_data=(x, y), verbose=0).history
    assert {"robust_top2", "val_top2", "val_robust_top2", "robust_seen"} <= set(history)
    assert not {"accuracy", "top2"} & set(history) and "val_accuracy" in history  # madry makes no clean forward
    assert seen and all(true[1:] == () and predicted[1:] == (4,) for true, predicted in seen)
    logits = trainer.classifier(x)["logits"].numpy()
    top2 = np.mean([label in row.argsort()[-2:] for label, row in zip(y, logits, strict=True)])
    np.testing.assert_allclose(history["val_top2"][-1], top2, atol=1e-6)


def test_with_a_share_metrics_are_of_the_clean_rows(make_classifier, batch):
    x, y = batch
    metric = keras.metrics.SparseCategoricalAccuracy(name="theirs")
    trainer = make_eager_trainer(
        make_classifier(),
        objectives.joint(share=0.25),
        optimizer=keras.optimizers.SGD(0.0),
        compile_options={"metrics": [metric]},
    )
    history = trainer.fit(x, y, batch_size=20, shuffle=False, verbose=0).history
    expected = losses.correct(trainer.classifier(x[:15])["logits"], y[:15]).numpy().mean()
    np.testing.assert_allclose([history["theirs"][0], history["accuracy"][0]], expected, atol=1e-6)


def test_an_objective_pays_only_for_the_forwards_it_reads(make_classifier, batch):
    x, y = (tf.constant(v) for v in batch)
    counts = {}
    for name in ("standard", "madry", "trades"):
        trainer = make_trainer(make_classifier(), name)
        trainer.optimizer.build(trainer.trainable_variables)
        graph = tf.function(trainer.train_step, autograph=False).get_concrete_function((x, y)).graph
        counts[name] = sum(node.op == "Conv2D" for node in graph.as_graph_def().node)
    # Outside the loop: madry's adversarial forward; trades' clean one of the search and both of the update.
    assert counts == {"standard": 1, "madry": 1, "trades": 3}


def test_the_second_step_does_not_retrace(make_classifier, batch):
    x, y = batch
    traces = []
    base = objectives.madry()

    def counted(views):
        traces.append(1)
        return base.inner(views)

    trainer = make_trainer(make_classifier(), tfrobust.Objective(counted, base.outer))
    trainer.fit(x, y, batch_size=5, verbose=0)
    once = len(traces)
    trainer.fit(x, y, batch_size=5, epochs=3, verbose=0)
    assert len(traces) == once


# One of each kind: a plain one, one that counts iterates, one that learns a multiplier, one that perturbs weights.
IN_GRAPHS = ("madry", "gairat", "dra", "awp")


@pytest.mark.filterwarnings("ignore:The objective 'aelfs'")
@pytest.mark.parametrize(
    ("name", "run_eagerly"),
    [
        *((name, True) for name in objectives.names()),
        *((name, False) for name in IN_GRAPHS),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in objectives.names() if name not in IN_GRAPHS),
    ],
)
def test_every_objective_reads_what_it_declares_and_trains(name, run_eagerly, make_classifier, batch):
    x, y = batch
    objective = objectives.get(name)
    classifier = make_classifier(head="cosine" if "cosine" in objective.needs else "dense")
    outputs = classifier(x)
    views = tfrobust.Views(
        y=y, x=x, x_adv=x, clean=outputs, adv=outputs, observed=tfrobust.Observed(np.full(20, 2.0, "float32"), 3)
    )
    for loss in (objective.inner, *(term.loss for term in objective.outer.values())):
        if loss is not None:
            value = loss(views)
            assert (value[0] if isinstance(value, tuple) else value).shape == (20,)
    assert {read.split(".")[1] for read in views.reads} | {"logits"} == objective.needs
    options = {"optimizer": keras.optimizers.Adam(0.02), "compile_options": {"run_eagerly": run_eagerly}}
    trainer = make_trainer(classifier, objective, attacks.pgd(eps=0.1, steps=2), **options)
    history = trainer.fit(x, y, batch_size=20, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert all(np.isfinite(w).all() for w in weights(classifier))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective))
    assert again.get_config() == objective.get_config() == objectives.get(objective.get_config()).get_config()


def count_by_hand(classifier, attack, x, y):
    """How many of the start and the iterates before the last are classified right."""
    z, right = x, 0
    one = tfrobust.attacks.pgd(eps=1.0, step_size=attack.step.size, steps=1, start="none")
    ascend = one.maximizing(objectives.madry().inner)
    for _ in range(attack.steps):
        right = right + losses.correct(classifier(z)["logits"], y).numpy()
        z = ascend(classifier, z, y).numpy()
        z = np.clip(z, x - attack.ball.radius, x + attack.ball.radius).astype("float32")
    return right


def test_gairat_weighs_by_the_iterates_that_are_still_right(make_classifier, batch):
    x, y = batch
    classifier = make_classifier()
    make_trainer(classifier, "standard", optimizer=keras.optimizers.Adam(0.02)).fit(x, y, epochs=30, verbose=0)
    attack = attacks.pgd(eps=0.2, step_size=0.02, steps=9, start="none")
    kappa = count_by_hand(classifier, attack, x, y)
    assert len(set(kappa)) > 2
    x_adv, observed = attack.maximizing(objectives.gairat().inner).observe(classifier, x, y)
    np.testing.assert_array_equal(observed.count, kappa)
    w = (1 + np.tanh(-1 + 5 * (1 - kappa / 4))) / 2  # K // 2 of K = 9
    expected = float(np.mean(w / w.mean() * losses.cross_entropy(classifier(x_adv)["logits"], y)))
    history = make_eager_trainer(classifier, "gairat", attack).fit(x, y, batch_size=20, verbose=0).history
    np.testing.assert_allclose(history["weighted_cross_entropy"], expected, rtol=1e-4)


def test_gairat_refuses_attacks_of_one_step(make_classifier):
    with pytest.raises(ValueError, match=r"counts the iterates.*expected `attack` of at least 2 steps. Received: 1"):
        make_trainer(make_classifier(), "gairat", attacks.fgsm(eps=0.1))
    with pytest.raises(ValueError, match=r"expected `validation_attack` of at least 2 steps. Received: 1"):
        make_trainer(make_classifier(), "gairat", validation_attack=attacks.fgsm(eps=0.1))


def test_gairat_counts_under_any_adversary(make_classifier, batch):
    """One with a loss of its own observes nothing by itself: the trainer counts."""
    x, y = batch
    for options in (
        {"attack": attacks.get("infofeature", eps=0.1, steps=3)},
        {"validation_attack": attacks.cw_linf(eps=0.1, steps=3)},
    ):
        history = make_eager_trainer(make_classifier(), "gairat", **options).fit(
            x, y, validation_data=(x, y), verbose=0
        )
        assert np.isfinite(history.history["val_weighted_cross_entropy"]).all()


def test_a_constraint_drives_its_multiplier(make_classifier, batch):
    """mu <- max(mu + rate * (mean CE(x) - bound), 0) after each update, and it weighs the term in the next."""
    x, y = batch
    trainer = make_eager_trainer(make_classifier(), objectives.dra(clean_weight=0.5, bound=0.2, rate=0.3))
    mu, seen = 0.5, []
    for _ in range(4):
        log = trainer.train_on_batch(x, y, return_dict=True)
        trainer.reset_metrics()
        expected = mu * float(log["clean_cross_entropy"]) + 0.5 * float(log["adversarial_cross_entropy"])
        np.testing.assert_allclose(float(log["loss"]), expected, rtol=1e-4)
        mu = max(mu + 0.3 * (float(log["clean_cross_entropy"]) - 0.2), 0.0)
        seen.append(mu)
        np.testing.assert_allclose(float(trainer._multipliers["clean_cross_entropy"]), mu, rtol=1e-4)
    assert seen[-1] > 1.0  # the constraint was violated
    assert any(v is trainer._multipliers["clean_cross_entropy"] for v in trainer.variables)  # a checkpoint keeps it
    assert not any(v is trainer._multipliers["clean_cross_entropy"] for v in trainer.trainable_variables)


def test_an_objective_keeps_nothing_of_a_training(make_classifier, batch):
    x, y = batch
    objective = objectives.dra(clean_weight=0.5, bound=0.0, rate=1.0)
    for _ in range(2):
        trainer = make_eager_trainer(make_classifier(), objective)
        assert float(trainer._multipliers["clean_cross_entropy"]) == 0.5
        trainer.fit(x, y, verbose=0)
        assert float(trainer._multipliers["clean_cross_entropy"]) > 1.0


def test_a_constraint_that_holds_lets_go(make_classifier, batch):
    x, y = batch
    trainer = make_eager_trainer(make_classifier(), objectives.dra(clean_weight=0.5, bound=100.0, rate=0.01))
    trainer.fit(x, y, batch_size=5, epochs=1, verbose=0)
    assert float(trainer._multipliers["clean_cross_entropy"]) == 0.0


def test_aelfs_with_a_frozen_head_trains_the_extractor_alone(make_classifier, batch):
    x, y = batch
    inputs = keras.Input((6, 6, 1))
    f = keras.layers.Dense(8)(keras.layers.LeakyReLU(0.1)(keras.layers.Conv2D(4, 3)(inputs)[:, 0, 0]))
    classifier = tfrobust.expose(keras.Model(inputs, keras.layers.Dense(4)(keras.layers.LeakyReLU(0.1)(f))))
    head = tfrobust.classifiers.head_of(classifier)
    head.trainable = False
    kept, moved = weights(head), weights(classifier)
    trainer = make_eager_trainer(classifier, "aelfs")  # and no warning
    trainer.fit(x, y, batch_size=10, verbose=0)
    assert_same(weights(head), kept, atol=0)
    assert max(np.abs(a - b).max() for a, b in zip(weights(classifier), moved, strict=True)) > 1e-4


def test_aelfs_warns_of_a_relu_before_the_head_and_of_a_trainable_head(make_classifier):
    classifier = make_classifier()  # its features follow a ReLU
    with pytest.warns(UserWarning) as caught:
        AdversarialTrainer(classifier, "aelfs", "pgd")
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == 2
    assert "features of both signs" in texts[0] and "activation='leaky_relu'" in texts[0]
    assert "expects a trained classifier whose head is frozen" in texts[1]
    tfrobust.classifiers.head_of(classifier).trainable = False
    with pytest.warns(UserWarning, match="head follows a ReLU") as caught:
        AdversarialTrainer(classifier, "aelfs", "pgd")
    assert len(caught) == 1


def test_the_head_is_found_behind_preprocessing_and_nested_models(make_classifier):
    inner = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4, name="last")])
    classifier = tfrobust.expose(inner, preprocess=keras.layers.Rescaling(2.0))
    assert tfrobust.classifiers.head_of(classifier).dense.name == "last"
    assert tfrobust.classifiers.head_of(make_classifier(features=False)).units == 4


# Input, callbacks, files


def test_datasets_arrays_and_pydatasets_give_the_same_weights(make_classifier, batch):
    x, y = batch

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            rows = slice(10 * index, 10 * index + 10)
            return x[rows], y[rows]

    start = weights(make_classifier())
    results = []
    for data in ((x, y), (tf.data.Dataset.from_tensor_slices((x, y)).batch(10),), (Sequence(),)):
        classifier = make_classifier()
        classifier.set_weights(start)
        options = {"batch_size": 10} if len(data) == 2 else {}
        make_eager_trainer(classifier).fit(*data, epochs=2, verbose=0, shuffle=False, **options)
        results.append(weights(classifier))
    assert_same(results[0], results[1], atol=1e-7)
    assert_same(results[0], results[2], atol=1e-7)


def test_labels_of_every_form_give_the_same_weights(make_classifier, batch):
    x, y = batch
    forms = {
        "integers": y,
        "column": y[:, None],
        "one hot": np.eye(4, dtype="float32")[y],
        "float": y.astype("float32"),
        "int64": y.astype("int64"),
        "bool columns": np.eye(4)[y] > 0,
    }
    start = weights(make_classifier())
    results = {}
    for form, labels in forms.items():
        classifier = make_classifier()
        classifier.set_weights(start)
        history = make_eager_trainer(classifier).fit(x, labels, shuffle=False, verbose=0).history
        results[form] = [*weights(classifier), history["robust_accuracy"]]
    for result in results.values():
        assert_same(result, results["integers"], atol=1e-7)


def test_callbacks_keep_the_best_classifier(make_classifier, batch, tmp_path):
    x, y = batch
    classifier = make_classifier()
    trainer = make_trainer(classifier, optimizer=keras.optimizers.Adam(0.05))
    keep = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_robust_accuracy", save_best_only=True)
    stop = keras.callbacks.EarlyStopping(monitor="val_robust_accuracy", patience=3, restore_best_weights=True)
    history = trainer.fit(
        x, y, epochs=60, batch_size=10, validation_data=(x, y), callbacks=[keep, stop], verbose=0
    ).history
    assert 4 <= len(history["loss"]) < 60
    best = keras.models.load_model(tmp_path / "best.keras")
    assert_same(weights(best), weights(classifier), atol=0)
    np.testing.assert_allclose(best(x)["logits"], trainer.predict(x, verbose=0), atol=1e-5)


def test_predict_gives_logits(make_classifier, batch):
    x, _ = batch
    trainer = make_eager_trainer(make_classifier())
    np.testing.assert_allclose(trainer.predict(x, verbose=0), trainer.classifier(x)["logits"], atol=1e-6)


def test_an_interrupted_save_leaves_the_previous_file_whole(make_classifier, tmp_path, monkeypatch):
    trainer = make_trainer(make_classifier())
    path = tmp_path / "classifier.keras"
    trainer.save(path)
    before = path.read_bytes()

    def half(path, **_):
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.classifier, "save", half)
    with pytest.raises(KeyboardInterrupt):
        trainer.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trainer.save(path, overwrite=False)


def test_weights_files_carry_the_optimizer(make_classifier, batch, tmp_path):
    x, y = batch
    trainer = make_eager_trainer(make_classifier(), optimizer=keras.optimizers.Adam(0.01))
    trainer.fit(x, y, batch_size=5, verbose=0)
    trainer.save_weights(tmp_path / "x.weights.h5")
    other = make_eager_trainer(make_classifier(), optimizer=keras.optimizers.Adam(0.01))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "x.weights.h5")
    assert_same(weights(other.classifier), weights(trainer.classifier), atol=0)
    assert int(other.optimizer.iterations.numpy()) == 4
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trainer.save_weights(tmp_path / "x.weights.h5", overwrite=False)


@pytest.mark.parametrize("policy", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"])
def test_mixed_precision_keeps_losses_and_pixels_in_float32(policy, make_classifier, batch):
    x, y = batch
    keras.config.set_dtype_policy(policy)
    classifier = make_classifier(batch_norm=True, features=False)
    dtypes = set()

    def inner(views):
        dtypes.add(views.adv["logits"].dtype.name)
        dtypes.add(views.x.dtype.name)
        return losses.cross_entropy(views.adv["logits"], views.y)

    trainer = make_trainer(
        classifier, tfrobust.Objective(inner, objectives.madry().outer), optimizer=keras.optimizers.Adam(0.01)
    )
    history = trainer.fit(x, y, epochs=20, validation_data=(x, y), validation_freq=20, verbose=0).history
    assert classifier(x)["logits"].dtype.name == policy.removeprefix("mixed_")
    assert dtypes == {"float32"}
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")


@pytest.mark.parametrize("objective", [pytest.param("madry", marks=pytest.mark.slow), {"name": "joint", "share": 0.5}])
def test_compile_options_give_the_same_weights(objective, make_classifier, batch):
    x, y = batch
    start = weights(make_classifier())
    results = []
    for options in ({}, {"run_eagerly": True}, {"steps_per_execution": 2}, {"jit_compile": True}):
        classifier = make_classifier()
        classifier.set_weights(start)
        attack = attacks.pgd(eps=0.1, steps=3, start="none")  # XLA rounds otherwise: no noise to amplify it
        metrics = [keras.metrics.SparseCategoricalAccuracy(name="theirs")]
        trainer = make_trainer(classifier, objective, attack, compile_options={"metrics": metrics, **options})
        trainer.fit(x, y, batch_size=5, shuffle=False, verbose=0)
        results.append(weights(classifier))
    for result in results[1:]:
        assert_same(result, results[0], atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "jit_compile"), [(1, False), pytest.param(1, True, marks=pytest.mark.slow), (3, False)]
)
def test_a_share_of_tiny_batches_attacks_at_least_one_row(rows, jit_compile, make_classifier, batch):
    x, y = batch[0][: 2 * rows], batch[1][: 2 * rows]
    trainer = make_trainer(make_classifier(), objectives.joint(share=0.5), compile_options={"jit_compile": jit_compile})
    before = weights(trainer.classifier)
    history = trainer.fit(x, y, batch_size=rows, verbose=0).history
    assert np.isfinite(history["loss"][0])
    assert np.abs(weights(trainer.classifier)[0] - before[0]).max() > 0


def test_validation_attacks_by_the_eps_at_the_end_of_this_fit(make_classifier, batch):
    x, y = batch
    ramp = keras.optimizers.schedules.PolynomialDecay(0.001, decay_steps=10, end_learning_rate=0.4)
    trainer = make_trainer(make_classifier(), "standard", attacks.pgd(eps=ramp), optimizer=keras.optimizers.Adam(0.02))
    trainer.fit(x, y, batch_size=5, epochs=10, verbose=0)
    hard = trainer.evaluate(x, y, verbose=0, return_dict=True)["robust_accuracy"]
    history = trainer.fit(x, y, epochs=1, validation_data=(x, y), verbose=0).history
    assert hard < 0.5 < history["val_robust_accuracy"][0]  # eps 0.4 after ten epochs, 0.04 after one


# Refusals


def test_compile_refuses_a_loss(make_classifier):
    with pytest.raises(
        ValueError, match=r"`compile` takes no loss: expected the objective alone.*Received: loss='mse'"
    ):
        make_trainer(make_classifier(), compile_options={"loss": "mse"})


BAD_BATCHES = {
    "0..255": (lambda x, y: (255 * x, y), r"Invalid pixels: expected values in \[0, 1\].*Received: least .*greatest 2"),
    "nan": (lambda x, y: (np.where(x > 0.8, np.nan, x), y), "Invalid pixels"),
    "negative": (lambda x, y: (x - 1, y), "Invalid pixels"),
    "channels first": (lambda x, y: (x.transpose(0, 3, 1, 2), y), "channels first: transpose them"),
    "another size": (lambda x, y: (x[:, :5], y), r"expected \(batch, 6, 6, 1\)"),
    "label too large": (lambda x, y: (x, y + 1), "expected integers from 0 to 3. Received: least 1, greatest 4"),
    "label negative": (lambda x, y: (x, y - 1), "expected integers from 0 to 3"),
    "label not whole": (lambda x, y: (x, y + 0.5), "expected integers from 0 to 3"),
    "soft labels": (lambda x, y: (x, np.full((20, 4), 0.25, "float32")), "soft labels are not supported"),
    "wrong classes": (lambda x, y: (x, np.eye(7)[y]), r"one-hot labels \(batch, 4\). Received"),
    "no labels": (lambda x, y: (x,), "expected .x, y. with labels"),
    "text labels": (lambda x, y: (x, np.array(["a"] * 20)), "expected integers or one-hot rows"),
    "empty": (lambda x, y: (x[:0], y[:0]), "at least one batch. Received: an empty dataset"),
}


ROUTES = {  # the check runs in the step, or before it, since XLA leaves checks out, or in Python
    "step": (False, "madry", {}),
    "step of a dataset": (True, "standard", {}),
    "before": (False, "standard", {"jit_compile": True}),
    "before a dataset": (True, "standard", {"jit_compile": True}),
    "eager": (True, "madry", {"run_eagerly": True}),
}
# By each route one of the pixels, one of the shapes and one of the labels; all of them by two routes.
ONE_OF_EACH = ("nan", "channels first", "label too large")


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        pytest.param(
            *(route, kind),
            marks=() if route in ("before", "eager") or kind in ONE_OF_EACH else pytest.mark.slow,
        )
        for route in ROUTES
        for kind in BAD_BATCHES
    ],
)
def test_bad_batches_are_refused_before_any_training(route, kind, make_classifier, batch):
    as_dataset, objective, options = ROUTES[route]
    spoil, text = BAD_BATCHES[kind]
    data = spoil(*batch)
    if as_dataset:
        data = (tf.data.Dataset.from_tensor_slices(data if len(data) > 1 else data[0]).batch(10),)
    classifier = make_classifier()
    before = weights(classifier)
    with pytest.raises(ValueError, match=text) as caught:
        make_trainer(classifier, objective, compile_options=options).fit(*data, verbose=0)
    assert "\n" not in str(caught.value)
    assert_same(weights(classifier), before, atol=0)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_an_empty_dataset_of_unknown_size_is_refused(make_classifier, batch):
    x, y = batch
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(5).filter(lambda *_: False)
    with pytest.raises(ValueError, match="Received: an empty dataset"):
        make_trainer(make_classifier()).fit(data, verbose=0)


@pytest.mark.parametrize(
    ("as_dataset", "jit_compile"),
    [
        (False, False),
        (True, True),
        pytest.param(True, False, marks=pytest.mark.slow),
        pytest.param(False, True, marks=pytest.mark.slow),
    ],
)
def test_bad_validation_data_is_refused_in_words(jit_compile, as_dataset, make_classifier, batch):
    x, y = batch
    validation = (255 * x, y)
    if as_dataset:
        validation = tf.data.Dataset.from_tensor_slices(validation).batch(10)
    trainer = make_trainer(make_classifier(), "standard", compile_options={"jit_compile": jit_compile})
    with pytest.raises(ValueError, match="Invalid pixels"):
        trainer.fit(x, y, validation_data=validation, verbose=0)


def test_single_batches_are_checked_too(make_classifier, batch):
    x, y = batch
    trainer = make_trainer(make_classifier())
    for step in (trainer.train_on_batch, trainer.test_on_batch):
        with pytest.raises(ValueError, match="Invalid pixels"):
            step(255 * x, y)


def softmax_classifier():
    inputs = keras.Input((6, 6, 1))
    return keras.Model(inputs, {"logits": keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(inputs))})


def nested_softmax_classifier():
    inner = softmax_classifier()
    inputs = keras.Input((6, 6, 1))
    return keras.Model(inputs, {"logits": keras.layers.Reshape((4,))(inner(inputs)["logits"])})


def needing(name):
    return tfrobust.Objective(None, {"one": lambda views: views.clean[name]}, needs=(name,))


def plain_model():
    return keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"classifier": softmax_classifier}, "expected logits, received probabilities"),
        ({"classifier": nested_softmax_classifier}, "expected logits, received probabilities"),
        ({"validation_attack": {"name": "pgd", "targeted": True}}, "`validation_attack`: expected an untargeted"),
        ({"validation_attack": {"name": "pgd", "bounds": (0, 2)}}, "expected the attack's bounds"),
        ({"classifier": plain_model}, "named outputs.*tfrobust.expose.*has no name"),
        ({"classifier": lambda: "resnet"}, "Received: an object of class str"),
        ({"objective": "feature_regularization", "features": False}, r"reads \['features'\].*does not give"),
        ({"objective": "spat"}, r"reads \['cosine'\].*head='cosine'.*NormalizedCosineSoftmax"),
        ({"objective": "infofeature", "features": False}, r"reads \['cam'\].*global average pooling and a dense layer"),
        ({"objective": needing("attention")}, r"reads \['attention'\].*madry_resnet', attention=\(4,\)"),
        ({"objective": needing("local_features")}, r"reads \['local_features'\].*needs a network with attention"),
        ({"objective": "trade"}, "Did you mean 'trades'"),
        ({"attack": "pdg"}, "Did you mean 'pgd'"),
        ({"attack": None}, "expected an `attack`"),
        ({"attack": {"name": "pgd", "targeted": True}}, "`attack`: expected an untargeted attack"),
    ],
)
def test_construction_refuses_in_words(arguments, text, make_classifier):
    features = arguments.pop("features", True)
    arguments = {"attack": "pgd", "classifier": lambda: make_classifier(features=features), **arguments}
    with pytest.raises(ValueError, match=text):
        AdversarialTrainer(arguments.pop("classifier")(), **arguments)


def test_a_schedule_that_ends_at_zero_needs_a_validation_attack(make_classifier, batch):
    x, y = batch
    fading = attacks.pgd(eps=keras.optimizers.schedules.CosineDecay(0.1, 3), steps=2)
    trainer = make_eager_trainer(make_classifier(), attack=fading)
    with pytest.raises(ValueError, match="ends at 0 in epoch 3, so validation would attack nothing"):
        trainer.fit(x, y, epochs=3, validation_data=(x, y), verbose=0)
    trainer = make_eager_trainer(make_classifier(), attack=fading, validation_attack=attacks.pgd(eps=0.1, steps=2))
    assert "val_robust_accuracy" in trainer.fit(x, y, epochs=3, validation_data=(x, y), verbose=0).history


def test_frozen_classifiers_are_refused(make_classifier, batch):
    classifier = make_classifier()
    classifier.trainable = False
    with pytest.raises(ValueError, match="whose layers are all frozen"):
        make_trainer(classifier).fit(*batch, verbose=0)


def test_changing_trainable_after_compile_is_warned_about(make_classifier, batch):
    x, y = batch
    trainer = make_eager_trainer(make_classifier())
    trainer.classifier.layers[1].trainable = False
    with pytest.warns(UserWarning, match="changed after `compile`"):
        trainer.fit(x, y, verbose=0)


def test_statistics_that_cannot_settle_are_warned_about(batch):
    x, y = batch
    inputs = keras.Input((6, 6, 1))
    h = keras.layers.BatchNormalization(name="slow")(inputs)
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(keras.layers.Flatten()(h))})
    with pytest.warns(UserWarning, match="'slow' .momentum 0.99. cannot converge in the 8 steps planned"):
        make_trainer(classifier).fit(x, y, batch_size=5, epochs=2, verbose=0)
