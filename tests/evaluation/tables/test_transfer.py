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
    assert table.rows == ("clean", "random noise", "a FGSM", "a PGD", "b FGSM", "b PGD")
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
    assert table["clean", "target"] == pytest.approx(right(x).mean()) != expected


def test_every_source_is_attacked_once_and_images_that_it_has_wrong_too():
    a, b, (x, y) = problem(images=10)
    calls = []

    def attack(classify, x, y):
        calls.append((classify, len(x)))
        return x

    table = table_of({"a": a, "b": b}, {"a": a, "b": b}, (x, y), {"nothing": attack}, batch_size=4, draws=0)
    assert [(c is a, n) for c, n in calls] == [(True, 4), (True, 3), (True, 3), (False, 4), (False, 3), (False, 3)]
    assert table.rows == ("clean", "a nothing", "b nothing")
    assert table.figures[1] == table.figures[2] == table.figures[0]


def test_an_adversary_outside_the_ball_is_discarded():
    a, b, data = problem()
    table = table_of({"a": a}, {"a": a, "b": b}, data, {"cheat": lambda classify, x, y: 1 - x}, draws=0)
    assert table.figures[1] == table.figures[0]


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
