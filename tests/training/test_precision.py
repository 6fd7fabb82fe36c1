"""Searches in 16 bits: what computes in bfloat16, what stays in float32, and what a run remembers of it."""

import copy
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from commands import config as _base
from commands.cli import Mistake
from commands.workdir import Workdir
from tfrobust import attacks, objectives
from tfrobust.callbacks import Checkpoints
from tfrobust.trainer import AdversarialTrainer
from tfrobust.training import precision

pytestmark = pytest.mark.filterwarnings("ignore:The moving statistics")


class Recording(keras.layers.Layer):
    """Returns its input and remembers the dtype in which it arrives."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x):
        self.seen.append(x.dtype.name)
        return x


def make_trainer(classifier, objective="madry", search_dtype="bfloat16", eager=True, **options):
    attack = attacks.pgd(eps=0.1, steps=2)
    trainer = AdversarialTrainer(classifier, objective, attack, search_dtype=search_dtype, **options)
    trainer.compile(keras.optimizers.SGD(0.1), run_eagerly=eager)
    return trainer


def policies(classifier):
    return {layer.dtype_policy.name for layer in classifier.layers}


def weights_after(classifier, start, batch, *arguments, **options):
    classifier.set_weights(start)
    trainer = make_trainer(classifier, *arguments, **options)
    trainer.fit(*batch, batch_size=10, shuffle=False, verbose=0)
    return classifier.get_weights()


@pytest.fixture
def recorded():
    """A network of a rescaling, a convolution and a head, with a recording layer after each of the first two."""
    x = inputs = keras.Input((6, 6, 1))
    x = keras.layers.Rescaling(2.0, -1.0)(x)
    first, second = Recording(), Recording()
    x = first(x)
    x = second(keras.layers.Conv2D(4, 3, activation="relu")(x))
    features = keras.layers.GlobalAveragePooling2D()(x)
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(features), "features": features})
    first.seen.clear()
    second.seen.clear()
    return classifier, first.seen, second.seen


def test_the_search_alone_computes_in_bfloat16_from_the_first_kernel_to_the_head(recorded, batch):
    classifier, at_pixels, inside = recorded
    read = set()

    def inner(views):
        read.add(views.adv.forward()["features"].dtype.name)
        read.add(f"logits {views.adv.forward()['logits'].dtype.name}")
        return tfrobust.losses.cross_entropy(views.adv["logits"], views.y)

    trainer = make_trainer(classifier, tfrobust.Objective(inner, objectives.madry().outer))
    for seen in (at_pixels, inside):
        seen.clear()
    trainer.train_on_batch(*batch)
    assert inside == ["bfloat16", "bfloat16", "float32"]  # two steps of the search, one update
    assert at_pixels == ["float32"] * 3
    assert read == {"bfloat16", "logits float32"}
    inside.clear()
    trainer.test_on_batch(*batch)
    assert set(inside) == {"float32"}  # validation searches as its figures are published
    assert policies(classifier) == {"float32"}


def test_a_compiled_search_computes_in_bfloat16_too(recorded, batch):
    classifier, _, inside = recorded
    inside.clear()
    make_trainer(classifier, "trades", eager=False).fit(*batch, validation_data=batch, verbose=0)
    assert set(inside) == {"bfloat16", "float32"} and inside[-1] == "float32"
    assert policies(classifier) == {"float32"}


def test_adversaries_stay_in_the_ball_and_the_update_in_float32(make_classifier, batch):
    x, y = batch
    found, dtypes = [], set()

    def outer(views):
        found.append(views.x_adv.numpy())
        return tfrobust.losses.cross_entropy(views.adv["logits"], views.y)

    class Watching(keras.optimizers.SGD):
        def apply_gradients(self, pairs, **options):
            pairs = list(pairs)
            dtypes.update(part.dtype if isinstance(part.dtype, str) else part.dtype.name for p in pairs for part in p)
            return super().apply_gradients(pairs, **options)

    classifier = make_classifier(batch_norm=True)
    trainer = make_trainer(classifier, tfrobust.Objective(objectives.madry().inner, {"theirs": tfrobust.Term(outer)}))
    trainer.compile(Watching(0.1), run_eagerly=True)
    trainer.train_on_batch(x, y)
    (x_adv,) = found
    assert x_adv.dtype == np.float32 and np.abs(x_adv - x).max() > 0.05
    np.testing.assert_array_equal(trainer.attack.ball.project(tf.constant(x_adv), tf.constant(x)), x_adv)
    assert dtypes == {"float32"} == {variable.dtype for variable in classifier.weights}


@pytest.mark.parametrize(
    "objective",
    ["trades", "gairat", "infofeature", "feature_matching", "feature_scatter", {"name": "joint", "share": 0.5}],
)
def test_objectives_log_the_same_figures(objective, make_classifier, batch):
    classifier = make_classifier(batch_norm=True)
    logs = [
        make_trainer(classifier, objective, dtype, seed=seed).train_on_batch(*batch, return_dict=True)
        for seed, dtype in enumerate(("float32", "bfloat16"))
    ]
    assert logs[0].keys() == logs[1].keys()
    assert all(np.isfinite(value) for value in logs[1].values())


def test_float32_is_auto_to_the_bit_and_bfloat16_is_another_search(make_classifier, batch):
    classifier = make_classifier(batch_norm=True)
    start = classifier.get_weights()
    auto, single, half = (weights_after(classifier, start, batch, "madry", d) for d in precision.DTYPES)
    for a, b in zip(auto, single, strict=True):
        np.testing.assert_array_equal(a, b)
    apart = max(np.abs(a - b).max() for a, b in zip(half, single, strict=True))
    assert 0 < apart < 0.1


def test_a_search_in_training_mode_leaves_statistics_in_float32(make_classifier, batch):
    classifier = make_classifier(batch_norm=True, dropout=0.3)
    still = make_trainer(classifier, search_in_training_mode=True)
    still.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    (norm,) = (layer for layer in classifier.layers if isinstance(layer, keras.layers.BatchNormalization))
    still.train_on_batch(*batch)
    assert norm.moving_mean.dtype == "float32"
    # One pass of the update in float32 moves them by a tenth of the way from 0, two more of the search would by 0.27.
    of_batch = keras.Model(classifier.input, norm.input)(batch[0]).numpy().mean((0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean.numpy(), 0.1 * of_batch, atol=0.02)


def test_under_a_mixed_policy_the_layers_keep_their_own(make_classifier, batch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    classifier = make_classifier(batch_norm=True)
    own = [layer.dtype_policy.name for layer in classifier.layers]
    start = classifier.get_weights()
    as_it_is, given = (weights_after(classifier, start, batch, "madry", d) for d in ("float32", "bfloat16"))
    for a, b in zip(as_it_is, given, strict=True):
        np.testing.assert_array_equal(a, b)
    with precision.computing_in("bfloat16", classifier):
        assert [layer.dtype_policy.name for layer in classifier.layers] == own


def nested(inputs):
    """Returns a classifier whose network, with head and softmax, is a model inside, behind a normalization."""
    inside = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(4, "softmax")]
    )
    prepared = keras.layers.Normalization(mean=0.5, variance=0.1)(inputs)
    return tfrobust.expose(keras.Model(inputs, inside(prepared)))


def test_layers_of_a_nested_network_change_and_its_ends_do_not(batch):
    classifier = nested(keras.Input((6, 6, 1)))
    with precision.computing_in("bfloat16", classifier):
        outputs = classifier(batch[0])
        changed = {type(part).__name__ for part in classifier._flatten_layers() if part.compute_dtype == "bfloat16"}
    assert changed == {"Conv2D", "Flatten"}
    assert outputs["logits"].dtype == "float32" and outputs["features"].dtype == "bfloat16"
    apart = np.abs(outputs["logits"].numpy() - classifier(batch[0])["logits"].numpy()).max()
    assert 0 < apart < 0.05


def test_attention_computes_its_weights_in_float32(batch):
    x = inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(4, 3)(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    attended = tfrobust.layers.NonlinearAttention()(x, features)
    outputs = {"logits": keras.layers.Dense(4)(attended["descriptor"]), "attention": attended["weights"]}
    classifier = keras.Model(inputs, outputs)
    with precision.computing_in("bfloat16", classifier):
        weights = classifier(batch[0])["attention"]
    assert weights.dtype == "float32"
    np.testing.assert_allclose(weights.numpy().sum((1, 2)), 1.0, rtol=1e-6)
    np.testing.assert_allclose(weights, classifier(batch[0])["attention"], atol=0.01)


class Stubborn(keras.layers.Layer):
    """Adds a tensor of its own dtype, whatever the policy says."""

    def call(self, x):
        return tf.add(x, tf.constant(1.0))


@pytest.mark.parametrize("eager", [True, False])
def test_a_layer_that_cannot_is_named_and_everything_is_put_back(eager, batch):
    x = inputs = keras.Input((6, 6, 1))
    x = keras.layers.Flatten()(Stubborn()(keras.layers.Conv2D(4, 3)(x)))
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(x)})
    before = classifier.get_weights()
    with pytest.raises(
        tfrobust.InvalidArgument, match=r"A layer does not compute in bfloat16: .*search_dtype="
    ) as found:
        make_trainer(classifier, eager=eager).fit(*batch, verbose=0)
    assert "\n" not in str(found.value) and "Stubborn" in str(found.value)
    assert policies(classifier) == {"float32"}
    for a, b in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    make_trainer(classifier, search_dtype="float32", eager=True).train_on_batch(*batch)


@pytest.mark.parametrize("given", ["float16", "bf16", None, 16])
def test_other_values_are_refused(given, make_classifier):
    with pytest.raises(
        tfrobust.InvalidArgument, match=r"search_dtype.*expected one of auto, bfloat16, float32\. Received"
    ):
        make_trainer(make_classifier(), search_dtype=given)


def test_a_classifier_that_has_nothing_to_change_is_refused(make_classifier):
    with pytest.raises(
        tfrobust.InvalidArgument, match=r"layers that compute in float32, none of them .* before the head"
    ):
        linear = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
        make_trainer(tfrobust.expose(linear))
    keras.config.set_dtype_policy("mixed_float16")
    with pytest.raises(tfrobust.InvalidArgument, match="Received: 'bfloat16', and layers that compute in float16"):
        make_trainer(make_classifier())
    assert make_trainer(make_classifier(), search_dtype="auto").search_dtype == "float32"


def test_configs_copies_and_checkpoints_remember_it(make_classifier, tmp_path, batch):
    trainer = make_trainer(make_classifier())
    again = AdversarialTrainer(make_classifier(), **trainer.get_config())
    assert again.search_dtype == copy.deepcopy(trainer).search_dtype == "bfloat16"
    single = make_trainer(make_classifier(), search_dtype="auto")
    assert single.get_config()["search_dtype"] == "float32"  # a copy searches alike on any machine
    single.fit(*batch, verbose=0, callbacks=[Checkpoints(single, tmp_path)])
    with pytest.raises(tfrobust.InvalidArgument, match="other search_dtype: 'float32' there, 'bfloat16' here"):
        Checkpoints(trainer, tmp_path).restore()


def test_a_checkpoint_of_an_older_version_searched_in_float32(make_classifier, tmp_path, batch):
    trainer = make_trainer(make_classifier(), search_dtype="float32")
    checkpoints = Checkpoints(trainer, tmp_path)
    del checkpoints._run._described["search_dtype"]
    trainer.fit(*batch, verbose=0, callbacks=[checkpoints])
    assert Checkpoints(trainer, tmp_path).restore() == 1
    with pytest.raises(tfrobust.InvalidArgument, match="other search_dtype"):
        Checkpoints(make_trainer(make_classifier()), tmp_path).restore()


def test_a_folder_keeps_what_its_run_began_with(tmp_path):
    auto = _base.build().to_dict()
    workdir = Workdir(tmp_path)
    assert workdir.resumed(auto) == auto
    workdir.claim({**auto, "search_dtype": "bfloat16"})
    assert workdir.resumed(auto)["search_dtype"] == "bfloat16"
    workdir.check(auto)
    with pytest.raises(Mistake, match="search_dtype: 'bfloat16' there, 'float32' given"):
        workdir.check({**auto, "search_dtype": "float32"})
    older = {name: value for name, value in auto.items() if name != "search_dtype"}
    workdir.config.write_text(json.dumps(older))
    assert workdir.resumed(auto)["search_dtype"] == "float32"


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx2 avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx2 avx512f", False)]
)
def test_auto_is_float32_until_a_measurement_has_shown_more(flags, expected, monkeypatch, make_classifier):
    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr(Path, "read_text", lambda self: f"flags\t\t: fpu {flags}\n")
    assert precision.has_units() == expected
    classifier = make_classifier()
    assert precision.chosen("auto", classifier) == "float32"
    monkeypatch.setattr(precision, "SHOWN", True)
    assert precision.chosen("auto", classifier) == ("bfloat16" if expected else "float32")
