"""The search loop against closed forms and a NumPy loop of its own."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrobust
from tfrobust import attacks, losses
from tfrobust.attacks import (
    L2,
    Gradient,
    GradientAttack,
    Linf,
    Momentum,
    Normalized,
    RelativeStepSize,
    Sign,
    TopKGradient,
)
from tfrobust.objectives.terms import adversarial_cross_entropy
from tfrobust.utils.random import Noise

RNG = np.random.default_rng(1)
X = RNG.uniform(0.3, 0.7, (5, 3, 3, 2)).astype("float32")
W = RNG.normal(0, 1, X.shape).astype("float32")


def linear(z):
    return ops.sum(W * z, axis=(1, 2, 3))


def bowl(z):
    """Concave, with its top at 0.5 + 0.05 * W."""
    return -ops.sum((z - 0.5 - 0.05 * W) ** 2, axis=(1, 2, 3))


def test_linear_loss_linf():
    z, observed = attacks.pgd(eps=0.1, steps=10).ascend(linear, X, seed=0)
    np.testing.assert_allclose(z, X + 0.1 * np.sign(W), atol=1e-6)
    assert observed is None


def test_linear_loss_l2():
    z, _ = attacks.pgd(eps=0.2, steps=40, norm="l2", start="none").ascend(linear, X)
    direction = W / np.linalg.norm(W.reshape(5, -1), axis=1)[:, None, None, None]
    np.testing.assert_allclose(z, X + 0.2 * direction, atol=1e-5)


def test_one_step_from_the_image_is_fgsm():
    one = attacks.pgd(eps=0.1, step_size=0.1, steps=1, start="none").ascend(bowl, X)[0]
    np.testing.assert_array_equal(one, attacks.fgsm(eps=0.1).ascend(bowl, X)[0])
    gradient = -2 * (X - 0.5 - 0.05 * W)
    np.testing.assert_allclose(one, X + 0.1 * np.sign(gradient), atol=1e-6)


def numpy_search(step, steps, eps, decay=None):
    """Linf search on the bowl in NumPy; decay: momentum on the L1-normalized gradient."""
    z, momentum = X.astype("float64"), np.zeros_like(X, "float64")
    for _ in range(steps):
        gradient = -2 * (z - 0.5 - 0.05 * W)
        if decay is not None:
            momentum = decay * momentum + gradient / np.abs(gradient).sum((1, 2, 3), keepdims=True)
            gradient = momentum
        z = np.clip(np.clip(step(z, gradient), X - eps, X + eps), 0, 1)
    return z


def test_sign_steps_equal_a_numpy_loop():
    expected = numpy_search(lambda z, g: z + 0.013 * np.sign(g), 7, 0.1)
    got, _ = GradientAttack(Linf(0.1), Sign(0.013), 7, start="none").ascend(bowl, X)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_raw_gradient_steps_equal_a_numpy_loop():
    expected = numpy_search(lambda z, g: z + 0.3 * g, 5, 0.06)
    got, _ = GradientAttack(Linf(0.06), Gradient(0.3), 5, start="none").ascend(bowl, X)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_normalized_steps_equal_a_numpy_loop():
    def step(z, g):
        return z + 0.05 * g / np.linalg.norm(g.reshape(5, -1), axis=1)[:, None, None, None]

    got, _ = GradientAttack(Linf(0.06), Normalized(0.05), 5, start="none").ascend(bowl, X)
    np.testing.assert_allclose(got, numpy_search(step, 5, 0.06), atol=1e-5)


def test_momentum_steps_equal_a_numpy_loop():
    expected = numpy_search(lambda z, g: z + 0.02 * np.sign(g), 8, 0.1, decay=0.9)
    got, _ = GradientAttack(Linf(0.1), Momentum(Sign(0.02), 0.9), 8, start="none").ascend(bowl, X)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    with_defaults, _ = attacks.mim(eps=0.1).ascend(bowl, X)
    np.testing.assert_allclose(
        with_defaults, numpy_search(lambda z, g: z + 0.01 * np.sign(g), 10, 0.1, decay=1.0), atol=1e-5
    )


def test_tiny_gradients_still_move_a_full_step():
    z, _ = attacks.pgd(eps=0.2, step_size=0.1, steps=1, norm="l2", start="none").ascend(lambda z: 1e-28 * linear(z), X)
    np.testing.assert_allclose(L2(1.0).distance(z, X), 0.1, rtol=1e-4)


def test_zero_gradient_moves_nothing():
    for norm in ("linf", "l2"):
        z, _ = attacks.pgd(eps=0.2, steps=3, norm=norm, start="none").ascend(lambda z: 0 * linear(z), X)
        np.testing.assert_allclose(z, X, atol=1e-6)


@pytest.mark.parametrize(
    "rule", [Normalized, TopKGradient, lambda s: Momentum(Sign(s)), lambda s: Momentum(Normalized(s))]
)
def test_zero_gradient_moves_nothing_under_xla(rule):
    step = rule(0.1)

    @tf.function(jit_compile=True)
    def moved(z, gradient):
        return step(z, gradient, tf.zeros(len(X)), L2(0.2), step.init(z))[0]

    gradient = tf.constant(W) * tf.reshape([0.0, 1e-9, 1e-28, 1.0, 0.0], (5, 1, 1, 1))
    z = moved(tf.constant(X), gradient)
    np.testing.assert_array_equal(z[0], X[0])
    assert np.isfinite(z).all() and (np.abs(z - X).max((1, 2, 3)) > 0).tolist() == [False, True, True, True, False]


def test_a_loss_without_gradient_moves_nothing():
    z, _ = attacks.pgd(eps=0.2, steps=3, start="none").ascend(lambda z: ops.sum(ops.round(z), axis=(1, 2, 3)), X)
    np.testing.assert_array_equal(z, X)


def test_targeted_descends():
    z, _ = attacks.pgd(eps=0.1, steps=10, targeted=True).ascend(linear, X)
    np.testing.assert_allclose(z, X - 0.1 * np.sign(W), atol=1e-6)


def wave(z):
    """Steps of 0.1 overshoot its tops: the last iterate is not the best."""
    return ops.mean(ops.sin(31.0 * z), axis=(1, 2, 3))


@pytest.mark.parametrize("targeted", [False, True])
def test_best_is_at_least_every_iterate(targeted):
    sign = -1 if targeted else 1
    options = {"eps": 0.3, "step_size": 0.1, "start": "none", "targeted": targeted}
    iterates = [wave(X)] + [wave(attacks.pgd(steps=k, **options).ascend(wave, X)[0]) for k in range(1, 7)]
    best = wave(attacks.pgd(steps=6, keep="best", **options).ascend(wave, X)[0])
    np.testing.assert_allclose(sign * best, np.max(sign * np.stack(iterates), axis=0), atol=1e-5)
    assert (sign * (best - iterates[-1])).numpy().max() > 0.01


@pytest.mark.parametrize("keep", ["last", "best"])
def test_restarts_take_the_best_of_each_example(keep):
    options = {"eps": 0.3, "step_size": 0.05, "steps": 3, "keep": keep}
    noise = Noise(5)
    single = [wave(attacks.pgd(**options).ascend(wave, X, noise.fold(r))[0]).numpy() for r in range(4)]
    got = wave(attacks.pgd(restarts=4, **options).ascend(wave, X, noise)[0])
    np.testing.assert_allclose(got, np.max(single, axis=0), atol=1e-5)
    assert len({int(np.argmax(column)) for column in np.stack(single).T}) > 1  # not one restart for all


def test_observed_counts_the_differentiated_iterates():
    def loss(z):
        return linear(z), ops.cast(linear(z) > linear(X) + 0.5 * linear(0.1 * np.sign(W)), "int32")

    _, observed = GradientAttack(Linf(0.1), Sign(0.01), 10, start="none").ascend(loss, X)
    # Iterates 0..9 are at k/10 of the way: those beyond one half are 6, 7, 8, 9; the tenth is not counted.
    np.testing.assert_array_equal(observed.count, [4.0] * 5)
    assert observed.of == 10


def test_same_seed_repeats_and_another_differs():
    attack = attacks.pgd(eps=0.3, step_size=0.001, steps=1)
    first, again, other = (attack.ascend(wave, X, seed)[0].numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_noise_is_a_function_of_the_global_row():
    x = np.zeros((7, 3, 2), "float32")
    for draw in ("uniform", "normal"):
        whole = getattr(Noise(4).fold(9), draw)(tf.constant(x)).numpy()
        parts = [
            getattr(Noise(4, first).fold(9), draw)(tf.constant(x[rows])).numpy()
            for first, rows in ((0, slice(0, 3)), (3, slice(3, 7)))
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_noise_of_a_tensor_seed_is_that_of_the_number():
    x = tf.zeros((2, 3))
    np.testing.assert_array_equal(Noise(4).uniform(x), Noise(tf.constant(4)).uniform(x))


# A row here where an attack does not know all three norms, takes too long by itself, or needs more to be made.
ALL = ("linf", "l2", "l1")
TWO = ("apgd", "boundary", "deepfool", "fab", "hop_skip_jump", "local_search", "random_noise", "spsa", "square")
NORMS = {"autoattack": ("linf",), **dict.fromkeys(TWO, ("linf", "l2"))}
QUICK = {
    "boundary": {"steps": 5, "restarts": 1},
    "cw_l2": {"eps": 1.0, "steps": 30, "searches": 3, "initial_c": 1.0},
    "deepfool": {"steps": 10},
    "fab": {"steps": 10},
    "hop_skip_jump": {"steps": 10, "samples": 60, "starts": 8},
    "local_search": {"rounds": 5},
    "random_noise": {"draws": 10},
    "spsa": {"steps": 5, "samples": 16},
    "square": {"queries": 50},
    "transfer": {"attack": "fgsm", "norm": "linf"},
}


def norms_of(name):
    """The norms that an attack is asked for; None: it has its own."""
    return NORMS.get(name, ALL) if "norm" in attacks.registry.ATTACKS.parameters(name) else (None,)


PAIRS = [
    (name, norm)
    for name in attacks.names()
    if hasattr(attacks, name)  # not what an example registered
    for norm in (("linf",) if "norm" in QUICK.get(name, {}) else norms_of(name))
]


@pytest.fixture
def make_attack(make_classifier, tmp_path):
    """`make(name, norm, ...)`, an attack in its quick form."""

    def make(name, norm, **options):
        if name == "transfer":
            source = tmp_path / "source.keras"
            if not source.exists():
                make_classifier().save(source)
            options["sources"] = str(source)
        options = {"eps": 0.1, **QUICK.get(name, {}), **options, **({"norm": norm} if norm else {})}
        return attacks.get(name, **options)

    return make


def still_right(classifier, z, y):
    return np.asarray(losses.correct(classifier(z)["logits"], y)) > 0


def cases(pairs, quick):
    """Rows of a test: those that are not quick wait for the slow suite."""
    return [pair if quick(*pair) else pytest.param(*pair, marks=pytest.mark.slow) for pair in pairs]


FIRST = dict(reversed(PAIRS))  # the first norm of every attack
LAST = dict(PAIRS)


@pytest.mark.parametrize(
    ("name", "norm"), cases(PAIRS, lambda name, norm: name in ("pgd", "square") or norm == FIRST[name])
)
def test_invariants_of_every_attack(name, norm, make_attack, make_classifier, batch):
    x, y = batch
    classifier = make_classifier()
    attack = make_attack(name, norm)
    z = np.asarray(attack(classifier, x, y, seed=3))
    assert z.shape == x.shape and z.dtype == np.float32
    assert np.asarray(attack.ball.distance(z, x)).max() <= attack.get_config()["eps"] + 1e-6
    assert z.min() >= 0 and z.max() <= 1
    np.testing.assert_array_equal(z, attack(classifier, x, y, seed=3))

    # What it does, it does to mislead.
    before, after = (still_right(classifier, pixels, y).sum() for pixels in (x, z))
    assert after <= before
    if isinstance(attack, GradientAttack):
        check_a_search_by_its_loss(attack, classifier, x, y, z)
        vanishing = make_attack(name, norm, eps=lambda epoch: 0.0 * epoch).at(3.0)
        np.testing.assert_allclose(vanishing(classifier, x, y), x, atol=1e-7)
    if isinstance(attack, attacks.Attack):
        forwards, backwards = attack.cost(classes=4)
        assert attack.runs(classes=4) >= 1 and forwards >= 1
        assert (backwards > 0) == (attack.kind in ("white box", "transfer"))

    # It can be written down.
    copied = attacks.get(attack.get_config())
    assert copied.get_config() == attack.get_config()
    through_keras = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert through_keras.get_config() == attack.get_config()


# Of the searches along gradients one stands for all: a radius that falls to zero is above.
LIKE_PGD = ("adv_interpolation", "apgd", "cw_linf", "dra", "feature_scatter", "fgsm", "infofeature", "mim", "spsa")


@pytest.mark.parametrize(
    ("name", "norm"), cases(LAST.items(), lambda name, norm: name not in (*LIKE_PGD, "autoattack", "transfer"))
)
def test_a_ball_of_radius_zero_holds_the_image_alone(name, norm, make_attack, make_classifier, batch):
    x, y = batch
    adversary = make_attack(name, norm, eps=0.0)
    np.testing.assert_array_equal(adversary(make_classifier(), x[:4], y[:4]), x[:4])


def check_a_search_by_its_loss(adversary, classifier, x, y, z):
    """It raises its own loss, beyond what its start did to it."""

    def loss(v):
        views = tfrobust.Views(y=y, x=x, x_adv=v, clean=classifier(x), adv=classifier(v))
        return float(ops.sum(adversary.effective_loss(views)))

    begun = (adversary.start or adversary.own_start)(adversary.ball, tf.constant(x), Noise(3))
    assert loss(z) > max(loss(begun), loss(x))


@pytest.fixture
def normalized():
    """A linear classifier with a normalized head of scale 10, its class vectors `(18, 3)`, images and labels."""
    inputs = keras.Input(X.shape[1:])
    head = tfrobust.layers.NormalizedCosineSoftmax(3, scale=10.0)
    classifier = keras.Model(inputs, head(keras.layers.Flatten()(inputs)))
    return classifier, ops.convert_to_numpy(head.kernel).astype("float64"), np.arange(len(X)) % 3


def test_an_attack_on_cosines_ascends_their_cross_entropy(normalized):
    """PGD in NumPy on CE(cos, y), without the scale; the same attack on the logits ends elsewhere."""
    classifier, kernel, y = normalized
    unit = kernel / np.linalg.norm(kernel, axis=0)

    def gradient(z):
        f = z.reshape(len(z), -1)
        length = np.linalg.norm(f, axis=1, keepdims=True)
        cosine = f @ unit / length
        p = np.exp(cosine) / np.exp(cosine).sum(-1, keepdims=True)
        towards = (p - np.eye(3)[y]) @ unit.T  # sum_j dCE/dcos_j * w_j
        return ((towards - (towards * f).sum(-1, keepdims=True) * f / length**2) / length).reshape(z.shape)

    z = X.astype("float64")
    for _ in range(6):
        z = np.clip(np.clip(z + 0.03 * np.sign(gradient(z)), X - 0.1, X + 0.1), 0, 1)
    options = {"eps": 0.1, "step_size": 0.03, "steps": 6, "start": "none"}
    on_cosines = attacks.get({"name": "pgd", "loss": "cosine_cross_entropy", **options})
    np.testing.assert_allclose(on_cosines(classifier, X, y), z, atol=1e-5)
    on_logits = attacks.pgd(**options, loss="adversarial_cross_entropy")
    assert np.abs(on_logits(classifier, X, y) - z).max() > 0.01
    np.testing.assert_array_equal(on_logits(classifier, X, y), attacks.pgd(**options)(classifier, X, y))


def test_a_loss_by_name_can_be_written_down_and_stays_the_attacks_own(normalized, batch, make_classifier):
    attack = attacks.pgd(eps=0.1, steps=2, loss="cosine_cross_entropy")
    assert attacks.get(json.loads(json.dumps(attack.get_config()))).loss is attack.loss is not None
    classifier, _, y = normalized
    report = tfrobust.evaluate(classifier, (X, y), eps=0.1, attacks=[attack], probes=0, verbose=False)
    assert report.attacks[0].settings["loss"] == "cosine_cross_entropy"
    x, y = batch
    trainer = tfrobust.AdversarialTrainer(make_classifier(head="cosine"), "madry", attack)
    assert trainer._adversary.search(trainer.classifier, tf.constant(x), tf.constant(y)).shape == x.shape


def test_a_classifier_without_cosines_is_refused_in_words(make_classifier, batch):
    dense, attack = make_classifier(), attacks.pgd(eps=0.1, steps=1, loss="cosine_cross_entropy")
    text = r"reads `adv\['cosine'\]`, which this classifier does not have.*Received: 'cosine'.*head='cosine'"
    with pytest.raises(ValueError, match=text):
        attack(dense, *batch)
    with pytest.raises(ValueError, match=text):
        tfrobust.evaluate(dense, batch, eps=0.1, attacks=[attack], probes=0, verbose=False)
    with pytest.raises(
        ValueError, match=r"^Unknown loss: .*Received: 'cosine_crossentropy'. Did you mean 'cosine_cross"
    ):
        attacks.pgd(loss="cosine_crossentropy")


def test_one_trace_serves_all_batch_sizes_and_seeds(make_classifier, batch):
    x, y = batch
    classifier = make_classifier()
    traces = []

    def classify(z):
        traces.append(z.shape)
        return classifier(z)

    adversary = attacks.pgd(eps=0.1, steps=3, loss=adversarial_cross_entropy)
    adversary(classify, x, y, seed=0)
    adversary(classify, x[:8], y[:8], seed=1)
    before = len(traces)  # one batch size, then any
    for rows, seed in ((5, 2), (20, 3), (7, 4)):
        adversary(classify, x[:rows], y[:rows], seed=seed)
    assert len(traces) == before


def test_a_clean_view_in_the_inner_loss_stays_out_of_the_loop(make_classifier, batch):
    x, y = batch
    classifier = make_classifier()

    def away(views):  # reads both sides
        return ops.sum((views.adv["logits"] - views.clean["logits"]) ** 2, axis=-1)

    @tf.function
    def search(x, y):
        return attacks.pgd(eps=0.1, steps=4).maximizing(away).search(classifier, x, y)

    graph = search.get_concrete_function(tf.constant(x), tf.constant(y)).graph.as_graph_def()
    in_loop = [node.op for function in graph.library.function for node in function.node_def]
    outside = [node.op for node in graph.node]
    assert in_loop.count("Conv2D") == 1
    assert outside.count("Conv2D") == 1
    assert np.abs(search(x, y) - x).max() > 0.05


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: attacks.pgd(steps=0), "`steps`: expected an integer of at least 1. Received: 0"),
        (lambda: attacks.pgd(steps=2.5), "`steps`: expected an integer"),
        (lambda: attacks.pgd(restarts=0), "`restarts`"),
        (lambda: attacks.pgd(step_size=0.0), "`step_size`: expected a positive"),
        (lambda: attacks.pgd(eps=8), "at most the pixel range"),
        (lambda: attacks.dra(p=0.0), r"`p`: expected a share of the values in \(0, 1\]"),
        (lambda: attacks.dra(p=1.5), "`p`"),
        (lambda: attacks.dra(eps=-0.1), "`eps`: expected a number of at least 0"),
        (lambda: attacks.infofeature(weight=-1), "`weight`"),
        (lambda: attacks.infofeature(distance="l7"), "Unknown distance"),
        (lambda: attacks.pgd(keep="bset"), "Did you mean 'best'"),
        (lambda: attacks.pgd(norm="inf"), "Did you mean 'linf'"),
        (lambda: attacks.get("pdg"), "Unknown attack: .*Did you mean 'pgd'"),
        (lambda: attacks.get("pgd", step=3), "Unknown argument of attack 'pgd'.*Did you mean .*'steps'"),
        (lambda: attacks.get(3), "expected a name, a config dict"),
        (lambda: GradientAttack(Linf(0.1), Sign(0.1), 1).get_config(), "put together by hand"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_schedule_can_be_named_in_a_config():
    ramp = {"name": "PolynomialDecay", "initial_learning_rate": 0.0, "decay_steps": 10, "end_learning_rate": 0.4}
    attack = attacks.get({"name": "pgd", "eps": ramp, "steps": 3})
    np.testing.assert_allclose(float(attack.at(5).ball.radius), 0.2, rtol=1e-6)
    assert json.loads(json.dumps(attack.get_config())) == attack.get_config()
    with pytest.raises(ValueError, match=r"Unknown schedule.*Did you mean 'PolynomialDecay'"):
        attacks.pgd(eps={**ramp, "name": "PolynomDecay"})
    with pytest.raises(ValueError, match="Invalid arguments of schedule 'PolynomialDecay'"):
        attacks.pgd(eps={**ramp, "steps": 3})


def test_a_step_that_follows_eps_is_written_down_and_read():
    attack = attacks.pgd(0.1, attacks.RelativeStepSize(0.2), 1, start="none")
    again = attacks.get(json.loads(json.dumps(attack.get_config())))
    for made in (attack, again):
        np.testing.assert_allclose(np.abs(made.ascend(linear, X)[0] - X), 0.02, atol=1e-6)
    with pytest.raises(ValueError, match=r"`step_size`: expected .*\"fraction\": NUMBER"):
        attacks.pgd(0.1, {"name": "RelativeStepSize"})


MASK = np.zeros((3, 3, 2), "float32")
MASK[:2, 1:] = 1
# In one norm, since tests/attacks/test_threat_model.py holds the balls. The walks along the boundary have a test of
# their own, and the other searches follow gradients as `pgd` does.
MASKED = ("cw_l2", "deepfool", "dra", "fab", "local_search", "pgd", "random_noise", "spsa", "square")


@pytest.mark.parametrize(("name", "norm"), cases(LAST.items(), lambda name, norm: name in MASKED))
def test_a_mask_holds_in_every_attack_and_in_its_config(name, norm, make_attack, make_classifier, batch):
    x, y = batch
    mask = np.zeros((6, 6, 1), "float32")
    mask[1:4, 2:] = 1
    attack = make_attack(name, norm, mask=mask)
    again = attacks.get(json.loads(json.dumps(attack.get_config())))
    assert "mask=array(6, 6, 1)" in repr(attack)
    classifier = make_classifier()
    z = np.asarray(attack(classifier, x, y, seed=3))
    np.testing.assert_array_equal(z[:, mask == 0], x[:, mask == 0])
    assert (z != x).any()
    np.testing.assert_array_equal(again.ball.mask, attack.ball.mask)
    if isinstance(attack, GradientAttack):
        assert (z[:, mask == 1] != x[:, mask == 1]).any(axis=-1).all()


def test_a_masked_step_is_the_steepest_of_the_allowed_ones():
    z, _ = attacks.pgd(eps=0.3, step_size=0.02, steps=5, norm="l2", start="none", mask=MASK).ascend(linear, X)
    allowed = W * MASK
    direction = allowed / np.linalg.norm(allowed.reshape(5, -1), axis=1)[:, None, None, None]
    np.testing.assert_allclose(z, X + 0.1 * direction, atol=1e-5)


def test_dra_chooses_its_values_among_the_allowed_ones():
    z, _ = attacks.dra(eps=0.05, step_size=0.01, steps=1, p=1 / 6, start="none", mask=MASK).ascend(linear, X)
    allowed = np.abs(W * MASK).reshape(5, 18)
    strongest = allowed >= np.sort(allowed)[:, -3, None]  # a sixth of all 18 values, those of the mask
    expected = 0.01 * 18 * (W * MASK).reshape(5, 18) / allowed.sum(1, keepdims=True) * strongest
    np.testing.assert_allclose(np.asarray(z - X).reshape(5, 18), expected, atol=1e-6)


def test_config_keeps_a_schedule():
    ramp = keras.optimizers.schedules.PolynomialDecay(0.0, decay_steps=10, end_learning_rate=0.4)
    again = attacks.get(json.loads(json.dumps(attacks.pgd(eps=ramp, steps=3).get_config())))
    np.testing.assert_allclose(float(again.at(5).ball.radius), 0.2, rtol=1e-6)


def test_default_step_follows_the_schedule_of_eps():
    ramp = keras.optimizers.schedules.PolynomialDecay(0.0, decay_steps=10, end_learning_rate=0.4)
    z, _ = attacks.pgd(eps=ramp, steps=10, start="none").at(5).ascend(linear, X)
    np.testing.assert_allclose(z, np.clip(X + 0.2 * np.sign(W), 0, 1), atol=1e-5)
    assert isinstance(attacks.pgd().step.size, RelativeStepSize)
