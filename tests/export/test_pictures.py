"""Pictures are decoded as they were drawn; what is none, or is too large, is refused before it takes room."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export import pictures
from tfrobust.data import arrays


@pytest.fixture(scope="module")
def decode():
    spec = [tf.TensorSpec((None,), tf.string)]
    graphs = {}

    def decode(*encoded, shape=(8, 8, 3)):
        if shape not in graphs:
            graphs[shape] = tf.function(lambda e: pictures.decode(e, shape), spec, autograph=False)
        return graphs[shape](tf.constant(encoded)).numpy()

    return decode


def encoded(pixels, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_a_png_of_the_right_size_is_what_was_drawn(decode):
    pixels = noise(3, 8, 8, 3)
    np.testing.assert_array_equal(decode(*map(encoded, pixels)), pixels)


def test_gray_becomes_colour_and_colour_gray_and_alpha_is_left_out(decode):
    gray, colour = noise(8, 8), noise(8, 8, 3)
    np.testing.assert_array_equal(decode(encoded(gray))[0], np.repeat(gray[..., None], 3, axis=2))
    np.testing.assert_array_equal(decode(encoded(np.dstack([colour, gray])))[0], colour)
    weights = np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601
    np.testing.assert_allclose(decode(encoded(colour), shape=(8, 8, 1))[0, ..., 0], colour @ weights, atol=1)


def test_a_jpeg_is_read_as_the_training_data_is_and_much_as_others_read_it(decode):
    smooth = np.broadcast_to(np.linspace(0, 255, 8).astype("uint8")[:, None, None], (8, 8, 3))
    file = encoded(np.ascontiguousarray(smooth), "JPEG", quality=95)
    np.testing.assert_array_equal(decode(file)[0], tf.io.decode_image(file))
    # TensorFlow's transform is the fast one of the JPEG library; Pillow's is the accurate one.
    np.testing.assert_allclose(decode(file)[0], np.asarray(Image.open(io.BytesIO(file))), atol=12)


def test_another_size_is_resized_as_the_training_data_is(decode):
    pixels = noise(30, 50, 3)
    expected = arrays.images([pixels], (8, 8), "here")[0]
    np.testing.assert_array_equal(decode(encoded(pixels), encoded(noise(8, 8, 3)))[0], expected)


WHOLE = encoded(noise(40, 40, 3))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"", "PNG or JPEG"),
        (b"text", "PNG or JPEG"),
        (encoded(noise(8, 8, 3), "GIF"), "PNG or JPEG"),
        (encoded(noise(8, 8, 3), "BMP"), "PNG or JPEG"),
        (WHOLE[:20], "a part"),
        (WHOLE[:100], "PNG"),
        (WHOLE[: len(WHOLE) // 2], "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (encoded(noise(40, 40, 3), "JPEG")[:-400], "JPEG"),
        (WHOLE[:16] + b"\xff" * 8 + WHOLE[24:], "16 megapixels"),
        (WHOLE[:16] + b"\0" * 8 + WHOLE[24:], "16 megapixels"),
        (encoded(np.zeros((4001, 4000), "uint8")), "16 megapixels"),
        (encoded(np.zeros((4001, 4000), "uint8"), "JPEG"), "16 megapixels"),
    ],
)
def test_what_is_no_picture_is_refused(decode, file, words):
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        decode(encoded(noise(8, 8, 3)), file)


def test_the_largest_that_is_decoded(decode):
    assert decode(encoded(np.full((4000, 4000), 7, "uint8")))[0].max() == 7
