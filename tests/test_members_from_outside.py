"""An objective and an attack that stand outside the package are trained, searched and evaluated by their names."""

import contextlib

import pytest
from keras import ops

import tfrobust
from tfrobust.objectives.terms import adversarial_cross_entropy
from trainers.configs import digits
from tuning.search import search
from tuning.spaces import Range, space_of


def logit_distance(views):
    return ops.mean((views.clean["logits"] - views.adv["logits"]) ** 2, axis=-1)


@contextlib.contextmanager
def registered():
    """Registers the two members, which no other test should find."""

    @tfrobust.objectives.register(search={"weight": (0.1, 2.0, "log")}, digits={"objective": {"weight": 0.2}})
    def toy_objective(weight=0.5):
        """CE(x', y) + weight * mean (z - z')^2."""
        terms = {"adversarial_cross_entropy": adversarial_cross_entropy}
        return tfrobust.Objective(
            adversarial_cross_entropy, {**terms, "logit_distance": tfrobust.Term(logit_distance, weight)}
        )

    @tfrobust.attacks.register
    def toy_attack(eps=0.1, steps=2):
        """PGD with steps of half the radius."""
        return tfrobust.attacks.pgd(eps=eps, steps=steps, step_size=eps / 2)

    try:
        yield
    finally:
        del tfrobust.objectives.OBJECTIVES._factories["toy_objective"]
        del tfrobust.attacks.ATTACKS._factories["toy_attack"]


@pytest.fixture(autouse=True)
def members():
    with registered():
        yield


def test_they_train_and_are_evaluated():
    train = tfrobust.data.load("digits", "validation").take(1)
    trainer = tfrobust.AdversarialTrainer(
        tfrobust.models.get("digits"), {"name": "toy_objective", "weight": 1.0}, "toy_attack"
    )
    trainer.compile("adam")
    history = trainer.fit(train, epochs=1, verbose=0).history
    assert set(history) == {
        "loss",
        "accuracy",
        "robust_accuracy",
        "adversarial_cross_entropy",
        "logit_distance",
    }
    again = tfrobust.AdversarialTrainer.from_config({"classifier": trainer.classifier, **trainer.get_config()})
    assert again.get_config() == trainer.get_config()
    report = tfrobust.evaluate(trainer.classifier, train, eps=0.1, attacks=["toy_attack"], verbose=False)
    assert report.robust_accuracy <= report.clean_accuracy


def config_of_a_search():
    config = digits.get_config("toy_objective").to_dict()
    config["attack"] = {"name": "toy_attack", "eps": 0.1, "steps": 1}
    config["data"].update(batch_size=512, validation=0.1)
    config["search"].update(trials=1, finalists=0)
    return {**config, "epochs": 1}


def test_the_objective_declares_its_row_and_its_space():
    config = config_of_a_search()
    assert config["objective"] == {"name": "toy_objective", "weight": 0.2}
    assert space_of(config) == [Range("objective.weight", 0.1, 2.0, "log")]


@pytest.mark.slow
def test_a_search_varies_the_weight(tmp_path):
    outcome = search(config_of_a_search(), tmp_path, say=str)
    assert 0.1 <= outcome.winner.trial.values["objective.weight"] <= 2.0
