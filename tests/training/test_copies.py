"""`copy.deepcopy` and pickle: of a trainer as of any compiled Keras model, and of what it is made of."""

import copy
import pickle

import keras
import numpy as np
import pytest

import tfrobust
from tfrobust import attacks, objectives
from tfrobust.trainer import AdversarialTrainer

pytestmark = pytest.mark.filterwarnings("ignore:The moving statistics")

WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda thing: pickle.loads(pickle.dumps(thing))}


def mean_prediction(y_true, y_pred):
    return keras.ops.mean(y_pred, axis=-1)


def largest_logit(views):
    return keras.ops.max(views.adv["logits"], axis=-1)


@pytest.fixture(params=WAYS)
def copied(request):
    return WAYS[request.param]


def test_a_copy_of_a_trainer_goes_on_by_itself(copied, make_classifier, batch):
    x, y = batch
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2"), mean_prediction]
    trainer = AdversarialTrainer(make_classifier(batch_norm=True), "trades", attacks.pgd(eps=0.1, steps=2), seed=3)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    # Eagerly: the few steps of this test take less time than the tracing of four graphs.
    trainer.compile(optimizer, metrics=metrics, weighted_metrics=["acc"], run_eagerly=True)
    trainer.fit(x, y, batch_size=10, shuffle=False, verbose=0)
    again = copied(trainer)
    assert again.run_eagerly
    assert again.classifier is not trainer.classifier
    assert again.get_config() == trainer.get_config()
    before = trainer.get_weights()
    keep = {"batch_size": 10, "epochs": 2, "shuffle": False, "initial_epoch": 1, "verbose": 0}
    theirs = again.fit(x, y, **keep).history
    for a, b in zip(trainer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert theirs == trainer.fit(x, y, **keep).history
    for a, b in zip(trainer.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_trainer_that_is_not_compiled_is_copied_too(copied, make_classifier):
    trainer = AdversarialTrainer(make_classifier(), "standard")
    assert not copied(trainer).compiled


@pytest.mark.parametrize("called", [False, True], ids=["fresh", "called"])
@pytest.mark.parametrize("name", ["pgd", "apgd", "fab", "square", "dra", "autoattack"])
def test_attacks_are_copied(name, called, copied, make_classifier, batch):
    arguments = {"square": {"queries": 3}, "autoattack": {"classes": 4}}.get(name, {"steps": 2})
    attack = attacks.get(name, eps=0.1, **arguments)
    if called and name in ("apgd", "square"):
        attack(make_classifier(), batch[0][:2], batch[1][:2])
    again = copied(attack)
    assert again.get_config() == attack.get_config()
    assert type(again) is type(attack)


def test_what_was_changed_after_it_was_made_stays_changed(copied, make_classifier, batch):
    classifier = make_classifier()
    adversary = attacks.pgd(eps=0.1, steps=2).maximizing(largest_logit)
    noisy = attacks.apgd(eps=0.1, steps=2).expecting(attacks.gradients.Estimated(samples=2))
    assert copied(noisy).gradients.samples == 2
    np.testing.assert_array_equal(copied(adversary)(classifier, *batch), adversary(classifier, *batch))
    objective = objectives.trades(beta=2.0)
    objective.inner = largest_logit
    objective.outer["largest"] = tfrobust.Term(largest_logit, 0.5)
    again = copied(objective)
    assert again.inner is largest_logit
    assert again.outer["largest"].weight == 0.5


@pytest.mark.parametrize("name", objectives.names())
def test_objectives_are_copied(name, copied):
    objective = objectives.get(name)
    again = copied(objective)
    assert again.get_config() == objective.get_config()
    assert again.outer.keys() == objective.outer.keys()


def test_a_shallow_copy_shares(make_classifier):
    objective = objectives.trades()
    again = copy.copy(objective)
    again.inner = largest_logit
    assert objective.inner is not largest_logit
    assert again.outer is objective.outer


def test_reports_and_classifiers_are_copied(copied, make_classifier, batch):
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")]
    )
    classifier = tfrobust.expose(model, preprocess=keras.layers.Rescaling(2.0))
    again = copied(classifier)
    np.testing.assert_array_equal(again(batch[0])["logits"], classifier(batch[0])["logits"])
    assert again(batch[0]).keys() == classifier(batch[0]).keys()
    report = tfrobust.evaluate(classifier, batch, eps=0.1, norm="linf", attacks=[attacks.fgsm(eps=0.1)])
    assert copied(report).robust_accuracy == report.robust_accuracy


def test_what_keras_would_make_of_a_config_is_said(make_classifier, tmp_path):
    trainer = AdversarialTrainer(make_classifier(), "madry", attacks.pgd(eps=0.1))
    with pytest.raises(ValueError, match=r"Expected AdversarialTrainer\(classifier, \*\*trainer.get_config\(\)\)"):
        keras.models.clone_model(trainer)
    keras.saving.save_model(trainer, tmp_path / "x.keras")
    with pytest.raises(ValueError, match=r"trainer.save\(path\), which saves the classifier"):
        keras.models.load_model(tmp_path / "x.keras")
    again = AdversarialTrainer(keras.models.clone_model(trainer.classifier), **trainer.get_config())
    assert again.get_config() == trainer.get_config()
