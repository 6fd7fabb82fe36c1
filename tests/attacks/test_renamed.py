"""Old names work for one more release, with a warning that tells the new one."""

import keras
import numpy as np
import pytest

from tfrobust import attacks


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (attacks, "Evasion", attacks.Attack),
        (attacks, "OfEps", attacks.RelativeStepSize),
        (attacks, "Strongest", attacks.TopKGradient),
        (attacks.steps, "OfEps", attacks.RelativeStepSize),
        (attacks.steps, "Strongest", attacks.TopKGradient),
    ],
)
def test_a_renamed_class(module, old, new):
    with pytest.warns(DeprecationWarning, match=f"{old}` is deprecated: use `{new.__name__}`"):
        assert getattr(module, old) is new
    with pytest.raises(AttributeError, match="has no attribute 'Evasoin'"):
        module.Evasoin  # noqa: B018


def test_a_search_that_stops_early():
    with pytest.warns(DeprecationWarning, match="use early_stop=True") as warned:
        attack = attacks.get({"name": "pgd", "keep": "fooling"})
    assert attack.early_stop and attack.compares_iterates and len(warned) == 1


def test_an_attack_with_a_loss(make_classifier, batch):
    search = attacks.pgd(eps=0.1, steps=2)
    with pytest.warns(DeprecationWarning, match=r"use `attack\.maximizing\(loss\)`"):
        attack = attacks.Adversary(search, attacks.view_losses.margin, least_classes=3)
    assert isinstance(attack, attacks.GradientAttack) and attack.least_classes == 3
    expected = attacks.pgd(eps=0.1, steps=2, loss=attacks.view_losses.margin)
    classifier = make_classifier()
    np.testing.assert_array_equal(attack(classifier, *batch), expected(classifier, *batch))


def test_an_attack_that_an_older_release_wrote():
    attack = attacks.cw_linf(eps=0.1)
    written = keras.saving.serialize_keras_object(attack)
    old = {**written, "class_name": "Adversary", "registered_name": "tfrobust>Adversary"}
    assert keras.saving.deserialize_keras_object(old).get_config() == attack.get_config()


def test_the_base_cannot_be_made():
    with pytest.raises(TypeError, match=r"expected GradientAttack\(ball, step, steps, \.\.\.\)"):
        attacks.Attack(attacks.Linf(0.1), attacks.Sign(0.1), 3)


def test_shared_arguments_are_explained_in_full():
    for name in attacks.names():
        assert "{{" not in (getattr(attacks, name, None) or attacks.pgd).__doc__
    assert "1 where a pixel may change" in attacks.pgd.__doc__
