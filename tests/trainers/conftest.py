"""Fixtures for the tests of the commands."""

import keras
import pytest

import tfrobust


def small():
    """A classifier of digits with one hidden layer: its graphs are far smaller than those of the model "digits"."""
    pixels = keras.Input((8, 8, 1))
    hidden = keras.layers.Dense(16)(keras.layers.Flatten()(pixels))
    return tfrobust.expose(keras.Model(pixels, keras.layers.Dense(10)(keras.layers.LeakyReLU(0.1)(hidden))))


@pytest.fixture
def make_small():
    """Returns `small`, which makes a classifier of digits with one hidden layer."""
    return small


@pytest.fixture(scope="session")
def small_network(tmp_path_factory):
    """The file of a classifier by `small`, for runs that begin with it (`fine_tune`)."""
    keras.utils.set_random_seed(7)
    path = tmp_path_factory.mktemp("network") / "small.keras"
    small().save(path)
    return str(path)
