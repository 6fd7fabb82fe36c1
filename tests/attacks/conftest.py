"""Fixtures for the tests of attacks."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust.utils.random import ImageNoise


@pytest.fixture
def make_numbered_search():
    """Makes a function of (numbers of images, seed) that returns the result of an attack's search on these images.

    One graph serves any number of images.
    """

    def make(attack, classify, x, y):
        rows, numbers = tf.TensorSpec((None, *x.shape[1:])), tf.TensorSpec([None], "int32")

        @tf.function(autograph=False, input_signature=[rows, numbers, tf.TensorSpec([2], "int32"), numbers])
        def search(x, y, seed, numbers):
            return attack.search(classify, x, y, ImageNoise(seed, numbers))

        def run(numbers, seed=(1, 2)):
            numbers = np.array(numbers, "int32")
            return search(x[numbers], y[numbers].astype("int32"), np.array(seed, "int32"), numbers).numpy()

        return run

    return make
