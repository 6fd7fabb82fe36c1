"""Transfer tables: the diagonal is the white box, sources are attacked once, noise is a row; distances."""

import keras
import numpy as np
import pytest

from tfrobust.evaluation import evaluate
from tfrobust.evaluation.tables import distances, transfer_table

EPS = 0.1
SHAPE = (3, 3, 1)


def linear(seed, classes=3):
    """A linear classifier whose classes meet in the middle of the pixel range, and its weights `(9, C)`."""
    weights = np.random.default_rng(seed).normal(size=(9, classes)).astype("float32")
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(classes)
    model = keras.Model(inputs, {"logits": dense(keras.layers.Flatten()(inputs))})
    dense.set_weights([weights, -0.5 * weights.sum(axis=0)])
    return model, weights


def problem(images=60):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.8, (images, *SHAPE)).astype("float32")
    (a, weights), (b, _) = linear(1), linear(2)
    y = (x.reshape(images, 9) @ weights - 0.5 * weights.sum(axis=0)).argmax(axis=-1)
    y[::9] = (y[::9] + 1) % 3  # some are wrong from the start
    return a, b, (x, y)


ATTACKS = {
    "FGSM": "fgsm",
    "PGD": {"name": "pgd", "steps": 3, "start": "uniform", "restarts": 3},
}


def table_of(sources, targets, data, attacks=ATTACKS, **options):
    return transfer_table(sources, targets, data, attacks, **{"eps": EPS, "verbose": False, **options})


def test_the_diagonal_is_the_white_box_accuracy_of_an_evaluation():
    a, b, data = problem()
    table = table_of({"a": a, "b": b}, {"a": a, "b": b}, data, batch_size=16, seed=3)
    changed = ("random noise", "a FGSM", "a PGD", "b FGSM", "b PGD")
    assert table.rows == ("clean", *(label + end for label in changed for end in ("", " (plain)")))
    for name, classifier in (("a", a), ("b", b)):
        report = evaluate(classifier, data, eps=EPS, attacks=ATTACKS, seed=3, probes=0, verbose=False)
        assert table["clean", name] == report.clean_accuracy
        for result in report.attacks:
            assert table[f"{name} {result.name}", name] == result.accuracy < report.clean_accuracy


def test_a_source_that_equals_the_target_gives_the_white_box_accuracy():
    a, b, data = problem()
    twin = keras.models.clone_model(a)
    twin.set_weights(a.get_weights())
    table = table_of({"twin": twin, "other": b}, {"a": a}, data)
    report = evaluate(a, data, eps=EPS, attacks=ATTACKS, probes=0, verbose=False)
    assert [table[f"twin {result.name}", "a"] for result in report.attacks] == [r.accuracy for r in report.attacks]
    assert table["other PGD", "a"] > table["twin PGD", "a"]  # what another network fears hurts less


def test_transferred_fgsm_of_a_linear_source_is_the_closed_form():
    _, _, (x, y) = problem()
    (source, weights), (target, others) = linear(1, classes=2), linear(2, classes=2)
    y = y % 2
    table = table_of({"source": source}, {"target": target}, (x, y), {"FGSM": "fgsm"})
    away = np.sign(weights[:, 1 - y] - weights[:, y]).T.reshape(x.shape)  # every image, right or wrong on the source

    def right(z):
        return (z.reshape(len(z), 9) @ others - 0.5 * others.sum(axis=0)).argmax(axis=-1) == y

    expected = (right(x) & right(np.clip(x + EPS * away, 0, 1).astype("float32"))).mean()
    assert table["source FGSM", "target"] == pytest.approx(expected)
    plain = right(np.clip(x + EPS * away, 0, 1).astype("float32")).mean()
    assert table["source FGSM (plain)", "target"] == pytest.approx(plain)
    assert table["clean", "target"] == pytest.approx(right(x).mean()) != expected


def test_every_source_is_attacked_once_and_images_that_it_has_wrong_too():
    a, b, (x, y) = problem(images=10)
    calls = []

    def attack(classify, x, y):
        calls.append((classify, len(x)))
        return x

    table = table_of({"a": a, "b": b}, {"a": a, "b": b}, (x, y), {"nothing": attack}, batch_size=4, draws=0)
    assert [(c is a, n) for c, n in calls] == [(True, 4), (True, 3), (True, 3), (False, 4), (False, 3), (False, 3)]
    assert table.rows == ("clean", "a nothing", "a nothing (plain)", "b nothing", "b nothing (plain)")
    assert set(table.figures) == {table.figures[0]}


def test_an_adversary_outside_the_ball_is_discarded():
    a, b, data = problem()
    table = table_of({"a": a}, {"a": a, "b": b}, data, {"cheat": lambda classify, x, y: 1 - x}, draws=0)
    assert set(table.figures) == {table.figures[0]}


def planted(cut):
    """Class 1 where an image's mean is above the cut, else class 0."""
    inputs = keras.Input(SHAPE)
    mean = keras.layers.Dense(1, use_bias=False)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, {"logits": keras.layers.Dense(2)(mean)})
    model.set_weights([np.full((9, 1), 1 / 9), np.array([[0.0, 100.0]]), np.array([0.0, -100.0 * cut])])
    return model


def test_plain_rows_count_the_changed_images_alone():
    """A planted classifier whose errors an attack mends: it is right on the adversary of an image that it has wrong."""
    x = np.broadcast_to(np.array([0.3, 0.45, 0.55, 0.7], "float32")[:, None, None, None], (4, *SHAPE)).copy()
    y = np.array([0, 1, 1, 1])  # the second one is wrong: its mean is below the cut

    def brighter(classify, x, y):
        return x + EPS

    def darker(classify, x, y):
        return x - EPS

    classifier = planted(0.5)
    table = table_of({"a": classifier}, {"a": classifier}, (x, y), {"up": brighter, "down": darker}, draws=40)
    figures = {row: table[row, "a"] for row in table.rows}
    # Up: all four are right, of which three were right before. Down: the third falls below the cut.
    assert [figures[f"a {name}"] for name in ("up", "up (plain)", "down", "down (plain)")] == [0.75, 1.0, 0.5, 0.5]
    # The mean of nine uniform numbers in +-0.1 stays below 0.05 but for few draws.
    assert figures["random noise"] <= figures["random noise (plain)"] <= figures["random noise"] + 0.25
    assert figures["clean"] == 0.75


def test_noise_counts_in_both_ways():
    """At the cut itself half of the draws are right, whichever class the clean image is given."""
    x = np.full((2, *SHAPE), 0.5, "float32")
    table = table_of({"a": planted(0.501)}, {"a": planted(0.501)}, (x, np.array([0, 1])), {"FGSM": "fgsm"}, draws=200)
    one = 2 * table["random noise", "a"]  # of the image that is right, the share of draws
    assert table["clean", "a"] == 0.5 and 0.4 < one < 0.65
    assert table["random noise (plain)", "a"] == pytest.approx(0.5, abs=0.06)


def test_figures_repeat_and_do_not_depend_on_the_batch_size():
    a, b, data = problem()
    tables = [table_of({"a": a}, {"b": b}, data, batch_size=size, seed=1) for size in (7, 60)]
    assert tables[0] == tables[1]
    noise = table_of({"a": a}, {"a": a, "b": b}, data, draws=30)
    assert all(noise["a PGD", name] <= noise["random noise", name] <= noise["clean", name] for name in ("a", "b"))


def test_what_makes_no_table_is_refused():
    a, _, data = problem()
    with pytest.raises(ValueError, match=r"^Invalid value for `sources`: expected a mapping name -> classifier"):
        table_of({}, {"a": a}, data)
    with pytest.raises(ValueError, match=r"^Invalid value for `targets`: expected a mapping name -> classifier"):
        table_of({"a": a}, [a], data)
    four, _ = linear(3, classes=4)
    with pytest.raises(ValueError, match=r"^Invalid classifier 'four': expected one of 3 classes.*Received: one of 4"):
        table_of({"a": a}, {"four": four}, data)
    with pytest.raises(ValueError, match=r"^Invalid value for `draws`"):
        table_of({"a": a}, {"a": a}, data, draws=-1)
    with pytest.raises(ValueError, match=r"^Unknown attack.*Received: 'fgms'"):
        table_of({"a": a}, {"a": a}, data, {"x": "fgms"})
    with pytest.raises(ValueError, match=r"^Invalid result of the attack .*: expected shape"):
        table_of({"a": a}, {"a": a}, data, {"x": lambda classify, x, y: x[:, :2]})


# Distances


def test_distances_are_those_of_the_adversaries_from_a_shared_start():
    _, _, (x, y) = problem(images=20)
    (a, _), (b, _), data = linear(1, classes=2), linear(2, classes=2), (x, y % 2)
    pgd = {"name": "pgd", "steps": 2, "start": "uniform"}
    towards = {"PGD": pgd, "again": dict(pgd), "nothing": lambda classify, x, y: x, "FGSM": "fgsm"}
    table = distances({"a": a, "b": b}, data, towards, eps=EPS, verbose=False)
    assert table.rows == ("again", "nothing", "FGSM") and table.columns == ("a", "b")
    assert table.figures[0] == (0.0, 0.0)
    # The gradient of a linear loss has the same sign everywhere: PGD ends where FGSM does, eps from x in every pixel.
    np.testing.assert_allclose(table.figures[1], 3 * EPS, rtol=1e-5)
    assert max(table.figures[2]) < 1e-5
    assert "mean L2 distance" in str(table)
    with pytest.raises(ValueError, match=r"^Invalid value for `attacks`: expected a mapping label -> attack"):
        distances({"a": a}, data, {"PGD": pgd}, eps=EPS)
