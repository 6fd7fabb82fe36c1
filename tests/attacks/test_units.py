"""The same images in other units: what an attack finds does not depend on the range that the pixels are written in."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import tfrobust
from tfrobust import attacks, evaluation, interpret
from tfrobust.attacks.threat_model import NORMS
from tfrobust.objectives.terms import adversarial_cross_entropy

# Within (0, 256) every length is multiplied by a power of two: not even rounding may differ.
RANGES = {"256": (0.0, 256.0), "255": (0.0, 255.0), "signed": (-1.0, 1.0)}
EPS = {"linf": 0.15, "l2": 0.7, "l1": 0.05}
SMALL = {  # of each attack as few steps as show that it moves
    "apgd": {"steps": 12},
    "autoattack": {"classes": 4},
    "boundary": {"steps": 4, "bisections": 6, "restarts": 1},
    "cw_l2": {"steps": 60, "searches": 3, "initial_c": 1.0},
    "cw_linf": {"steps": 5},
    "deepfool": {"steps": 10},
    "fab": {"steps": 8, "restarts": 2},
    "local_search": {"rounds": 4, "candidates": 8},
    "mim": {"steps": 4},
    "pgd": {"steps": 5, "restarts": 2},
    "random_noise": {"draws": 10},
    "spsa": {"steps": 4, "samples": 8},
    "square": {"queries": 40},
    "transfer": {"attack": "pgd"},
}
IN_PIXELS = ("eps", "step_size", "radius")  # arguments that are lengths


def wider(size, bounds):
    return size * (bounds[1] - bounds[0])


def written(x, bounds):
    """The same images with pixels within the bounds."""
    return (bounds[0] + wider(x, bounds)).astype("float32")


def read_back(z, bounds):
    return (np.asarray(z) - bounds[0]) / (bounds[1] - bounds[0])


def classifier_of(bounds, weights):
    """A network of one layer of 12 numbers, and the same for pixels within other bounds."""
    first, second = weights

    def classify(z):
        u = (z - bounds[0]) * (1 / (bounds[1] - bounds[0]))
        hidden = ops.tanh(ops.matmul(ops.reshape(u - 0.5, (-1, 36)), first))
        cam = ops.reshape(hidden, (-1, 3, 1, 4))
        return {"logits": ops.matmul(hidden, second), "features": hidden, "cam": cam}

    return classify


@pytest.fixture(scope="module")
def images():
    """Weights of a classifier that is right on most of its images, these and their labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 24).astype("int32")
    x = rng.uniform(0.2, 0.6, (24, 6, 6, 1)).astype("float32")
    for image, label in zip(x, y, strict=True):
        row, column = 3 * (label // 2), 3 * (label % 2)
        image[row : row + 3, column : column + 3] += 0.3
    first = rng.normal(0, 0.4, (36, 12)).astype("float32")
    hidden = np.tanh((x - 0.5).reshape(-1, 36) @ first)
    second = 4 * np.linalg.lstsq(hidden, np.eye(4)[y], rcond=None)[0]
    return (first, second.astype("float32")), x, y


def made(name, norm, bounds, classifier, **lengths):
    """An attack of a family's name as an evaluation makes it; None where it has no such norm."""
    takes = attacks.registry.ATTACKS.parameters(name)
    given = {**SMALL.get(name, {}), "bounds": bounds}
    given |= {key: wider(value, bounds) for key, value in {"eps": EPS[norm], **lengths}.items() if key in takes}
    if name == "transfer":
        given["sources"] = classifier
    if "norm" in takes:
        given["norm"] = norm
    elif type(attacks.get(name, bounds=bounds).ball) is not NORMS[norm]:
        return None
    try:
        return attacks.get(name, **given)
    except ValueError as error:
        assert "norm" in str(error)
        return None


def accepted():
    """Every attack with every norm that it accepts."""
    return [
        (name, norm)
        for name in attacks.names()
        for norm in NORMS
        if made(name, norm, (0.0, 1.0), lambda z: {"logits": z}) is not None
    ]


def found(images, bounds, make):
    """What an attack returns, written in [0, 1], and which images it fools."""
    weights, x, y = images
    classifier = classifier_of(bounds, weights)
    z = make(bounds, classifier)(classifier, written(x, bounds), y)
    return read_back(z, bounds), np.argmax(classifier(z)["logits"], -1) != y


# Those with lengths of their own among their constants; all others move by parts of eps.
LENGTHS = {"cw_l2": "l2", "deepfool": "l2", "fab": "l2", "spsa": "linf"}  # and the norm that is tried at every run


def cases():
    for name, norm in accepted():
        for label in RANGES:
            quick = LENGTHS.get(name) == norm and label == "signed"
            yield pytest.param(name, norm, label, id=f"{name}-{norm}-{label}", marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("name", "norm", "label"), list(cases()))
def test_the_same_adversaries_in_any_units(images, name, norm, label):
    def make(bounds, classifier):
        return made(name, norm, bounds, classifier)

    z, fooled = found(images, (0.0, 1.0), make)
    again, fooled_again = found(images, RANGES[label], make)
    np.testing.assert_array_equal(fooled_again, fooled)
    if label == "256" or name != "boundary":  # along a boundary rounding decides which way is taken
        np.testing.assert_allclose(again, z, atol=1e-5 if label == "256" else 1e-3)


OWN = {
    "normal start": lambda bounds, classifier: attacks.pgd(
        wider(0.15, bounds), wider(1e-4, bounds), 1, start="normal", bounds=bounds, loss=adversarial_cross_entropy
    ),
    "any size": lambda bounds, classifier: attacks.fab(None, steps=6, norm="l2", bounds=bounds),
    "a given radius": lambda bounds, classifier: attacks.spsa(
        wider(0.1, bounds), wider(0.02, bounds), 3, radius=wider(0.03, bounds), samples=8, bounds=bounds
    ),
}


@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_starts_and_arguments_that_are_lengths(images, make):
    z, _ = found(images, (0.0, 1.0), make)
    assert np.abs(z - images[1]).max() > 1e-4
    np.testing.assert_allclose(found(images, (0.0, 255.0), make)[0], z, atol=2e-5)


@pytest.mark.parametrize("name", [n for n in attacks.names() if n not in ("cw_l2", "deepfool", "transfer")])
def test_a_radius_that_nobody_gave_is_a_part_of_the_range(name):
    plain, wide = (attacks.get(name, bounds=bounds) for bounds in ((0.0, 1.0), (0, 255)))
    assert plain.ball.radius in (8 / 255, 1 / 255)
    assert wide.ball.radius == pytest.approx(255 * plain.ball.radius)
    assert attacks.get(wide.get_config()).ball.radius == wide.ball.radius


@pytest.mark.parametrize(
    ("norm", "bounds"),
    [
        pytest.param("linf", (0.0, 255.0), marks=pytest.mark.slow),
        pytest.param("linf", (-1.0, 1.0), marks=pytest.mark.slow),
        pytest.param("l1", (0.0, 255.0), marks=pytest.mark.slow),
        pytest.param("l1", (-1.0, 1.0), marks=pytest.mark.slow),
    ],
)
def test_the_same_evaluation_in_any_units(images, norm, bounds):
    weights, x, y = images

    def report(bounds):
        return evaluation.evaluate(
            classifier_of(bounds, weights), (written(x, bounds), y), eps=wider(0.3 * EPS[norm], bounds), norm=norm,
            bounds=bounds, probes=24, verbose=False,
        )  # fmt: skip

    one, other = report((0.0, 1.0)), report(bounds)
    assert 0 < one.robust_accuracy < one.clean_accuracy
    for figure in ("clean_accuracy", "robust_accuracy", "robust_accuracy_8bit"):
        assert getattr(one, figure) == getattr(other, figure)
    assert one.curves["steps"] == other.curves["steps"]
    in_range = [[eps / (bounds[1] - bounds[0]), accuracy] for eps, accuracy in other.curves["eps"]]
    np.testing.assert_allclose(in_range, one.curves["eps"], atol=1e-6)
    assert len(one.alarms) == len(other.alarms)


@pytest.fixture(scope="module")
def in_ranges():
    """`(classifier, images, labels)` of a network, by bounds."""
    keras.utils.set_random_seed(3)
    model = tfrobust.models.get("digits", features=8)
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (10, 8, 8, 1)).astype("float32")
    y = np.argmax(model(x)["logits"], -1).astype("int32")

    @functools.cache
    def within(bounds):
        inputs = keras.Input((8, 8, 1))
        scale = 1 / (bounds[1] - bounds[0])
        scaled = keras.layers.Rescaling(scale, -bounds[0] * scale)(inputs)
        return keras.Model(inputs, model(scaled)), (written(x, bounds), y)

    return within


MEASURES = {
    "noise of one size": lambda c, data, bounds: evaluation.noise(
        c, data, [wider(0.1, bounds)], draws=3, bounds=bounds, verbose=False
    ),
    "noise": lambda c, data, bounds: evaluation.noise(c, data, draws=3, bounds=bounds, verbose=False),
    "corruptions": lambda c, data, bounds: evaluation.corruptions(
        c, data, ["fog", "contrast"], [5], bounds=bounds, verbose=False
    ),
    "shifts": lambda c, data, bounds: evaluation.shifts(c, data, 2, bounds=bounds, verbose=False),
    "distances": lambda c, data, bounds: evaluation.distances(
        {"it": c}, data, {"a": "fgsm", "b": {"name": "mim", "steps": 2}},
        eps=wider(0.1, bounds), bounds=bounds, verbose=False,
    ),
    "perturbation_distances": lambda c, data, bounds: interpret.perturbation_distances(
        c, data, {"a": attacks.fgsm(bounds=bounds), "b": attacks.mim(steps=2, bounds=bounds)}, bounds=bounds
    ),
    "dra_success": lambda c, data, bounds: interpret.dra_success({"it": c}, data, [0.5], steps=2, bounds=bounds),
    "coverage": lambda c, data, bounds: interpret.coverage({"it": c}, data, bounds=bounds),
    "raw coverage": lambda c, data, bounds: interpret.coverage(
        {"it": c}, data, [1e-3, 1e-2, 0.1], normalized=False, bounds=bounds
    ),
    "gradient_map_test": lambda c, data, bounds: interpret.gradient_map_test(c, {"it": c}, data, bounds=bounds),
}  # fmt: skip


SLOW = ("noise", "perturbation_distances", "raw coverage")  # much like another


@pytest.mark.parametrize(
    "measure",
    [pytest.param(m, id=name, marks=[pytest.mark.slow] if name in SLOW else []) for name, m in MEASURES.items()],
)
def test_the_same_figures_in_any_units(in_ranges, measure):
    tables = [measure(*in_ranges(bounds), bounds) for bounds in ((0.0, 1.0), (0.0, 255.0))]
    one, other = (np.array(table.figures, "float64") for table in tables)
    assert np.isfinite(one).all() and one.max() > 0
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


def test_the_same_maps_in_any_units(in_ranges):
    found = []
    for bounds in ((0.0, 1.0), (-1.0, 1.0)):
        classifier, (x, y) = in_ranges(bounds)
        found.append(interpret.normalize(interpret.input_gradients(classifier, x, y, bounds=bounds)))
    np.testing.assert_allclose(*found, atol=1e-4)
