"""Attacks inside a user's `tf.function`, `Dataset.map` and training step return what they return eagerly."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import attacks
from tfrobust.attacks.view_losses import adversarial_cross_entropy

SPECS = [tf.TensorSpec((None, 6, 6, 1), tf.float32), tf.TensorSpec((None,), tf.int32)]
SMALL = {"eps": 0.05, "steps": 2, "queries": 4, "classes": 4}


@pytest.fixture
def classifier(make_classifier):
    return make_classifier()


def labels(classifier, x):
    return keras.ops.convert_to_numpy(keras.ops.argmax(classifier(x)["logits"], -1)).astype("int32")


def made(name, classifier):
    arguments = {key: SMALL[key] for key in attacks.registry.ATTACKS.parameters(name) if key in SMALL}
    if name == "infofeature":
        del arguments["classes"]
    sources = {"sources": [classifier, classifier]} if name == "transfer" else {}
    return attacks.get(name, **arguments, **sources)


def assert_same_in_a_graph(adversary, classifier, x, **options):
    y = labels(classifier, x)
    eager = np.asarray(adversary(classifier, x, y, seed=3))
    graph = tf.function(lambda x, y: adversary(classifier, x, y, seed=3), input_signature=SPECS, **options)
    np.testing.assert_allclose(graph(x, y), eager, atol=1e-6)
    return eager


QUICK = ("cw_l2", "deepfool", "pgd", "random_noise")  # a search along gradients, others, and one without any


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in attacks.names()]
)
def test_every_attack_is_the_same_in_a_graph(name, classifier, batch):
    assert_same_in_a_graph(made(name, classifier), classifier, batch[0][:6])


@pytest.mark.parametrize("autograph", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "adversary",
    [
        attacks.pgd(eps=0.1, steps=2, restarts=3, loss=adversarial_cross_entropy),
        attacks.apgd(eps=0.05, steps=2, loss="dlr_targeted", targets=3),
        attacks.Cascade([attacks.random_noise(eps=0.02, draws=2), attacks.cw_linf(eps=0.1, steps=2)]),
    ],
    ids=["restarts", "targets", "cascade"],
)
def test_runs_and_members_in_a_row(adversary, autograph, classifier, batch):
    assert_same_in_a_graph(adversary, classifier, batch[0], autograph=autograph)


def test_a_cascade_stops_where_nothing_is_left(classifier, batch):
    """Its second member never runs: every image is wrong already, and a batch of none would meet it."""
    x = batch[0]
    wrong = (labels(classifier, x) + 1) % 4
    cascade = attacks.Cascade([attacks.random_noise(eps=0.02, draws=1), attacks.fab(eps=0.02, steps=1)])
    graph = tf.function(lambda x, y: cascade(classifier, x, y), input_signature=SPECS)
    np.testing.assert_array_equal(graph(x, wrong), cascade(classifier, x, wrong))


def test_in_a_dataset(classifier, batch):
    x, y = batch
    adversary = attacks.pgd(eps=0.1, steps=2, restarts=2, loss=adversarial_cross_entropy)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
    data = data.map(lambda x, y: (adversary(classifier, x, y, seed=1), y), num_parallel_calls=2)
    np.testing.assert_allclose(next(iter(data))[0], adversary(classifier, x, y, seed=1), atol=1e-6)


@pytest.mark.parametrize("name", ["pgd", pytest.param("apgd", marks=pytest.mark.slow)])
def test_under_xla(name, classifier, batch):
    """The trainer of a network of one's own compiles its step by XLA on a GPU."""
    x, y = batch
    adversary = attacks.get(name, eps=0.1, steps=2, restarts=2)
    compiled = tf.function(lambda x, y: adversary(classifier, x, y), jit_compile=True)
    np.testing.assert_allclose(compiled(x, y), adversary(classifier, x, y), atol=1e-5)


def test_what_is_no_image_is_refused_when_the_graph_runs(classifier, batch):
    x, y = batch
    adversary = attacks.pgd(eps=0.1, steps=1, loss=adversarial_cross_entropy)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected values in \[0, 1\]"):
        tf.function(lambda x, y: adversary(classifier, x, y))(255 * x, y)


def test_in_a_training_step_of_ones_own(classifier, batch):
    """No gradient goes through the search, and its seed may be the number of the step."""
    x, y = batch
    adversary = attacks.pgd(eps=0.1, steps=2, restarts=2, loss=adversarial_cross_entropy)

    class Trained(keras.Model):
        def __init__(self):
            super().__init__()
            self.classifier = classifier

        def call(self, x):
            return self.classifier(x)["logits"]

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                x_adv = adversary(self.classifier, x, y, seed=self.optimizer.iterations)
                loss = keras.ops.mean(tfrobust.losses.cross_entropy(self(x_adv), y))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    before = [w.copy() for w in classifier.get_weights()]
    model = Trained()
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, y, batch_size=20, shuffle=False, verbose=0)
    after = classifier.get_weights()
    classifier.set_weights(before)
    x_adv = adversary(classifier, x, y, seed=0)
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(tfrobust.losses.cross_entropy(classifier(x_adv)["logits"], y))
    for w, new, g in zip(before, after, tape.gradient(loss, classifier.trainable_variables), strict=True):
        np.testing.assert_allclose(new, w - 0.1 * g, atol=1e-5)


def test_a_plain_search_in_a_graph(classifier, batch):
    x, y = batch
    attack = attacks.pgd(eps=0.1, steps=2, restarts=2)

    def search(x, y):
        return attack.ascend(lambda z: tfrobust.losses.cross_entropy(classifier(z)["logits"], y), x, seed=1)[0]

    np.testing.assert_allclose(tf.function(search)(x, y), search(x, y), atol=1e-6)


def test_a_graph_leaves_nothing_behind(classifier, batch):
    """The classifier may be a function of a graph's own tensors: neither a later graph nor an eager call meets them."""
    x, y = batch
    adversary = attacks.pgd(eps=0.1, steps=1, loss=adversarial_cross_entropy)
    parts = {"scale": 1.0}

    def classify(z):
        return {"logits": classifier(z)["logits"] * parts["scale"]}

    @tf.function
    def scaled(x, y, scale):
        parts["scale"] = scale
        return adversary(classify, x, y)

    scaled(x, y, tf.constant(2.0))
    parts["scale"] = 1.0
    adversary(classify, x, y)
    assert scaled(x[:5], y[:5], tf.constant(2.0)).shape == (5, 6, 6, 1)


def test_attacks_of_other_libraries_say_that_they_cannot(classifier, batch):
    foreign = attacks.foreign.Foreign("theirs", {}, lambda f, c, x, y: x, attacks.Linf(0.1), "white box")
    with pytest.raises(ValueError, match=r"expected a call outside of tf\.function"):
        tf.function(lambda x, y: foreign(classifier, x, y))(*batch)
