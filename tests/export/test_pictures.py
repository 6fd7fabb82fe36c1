"""Pictures are decoded as they were drawn and held; what is none, or is too large, is refused before it takes room."""

import io
import random
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from export import pictures
from tfrobust.data import load


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


def test_another_size_is_resized_as_the_training_data_is(decode, tmp_path):
    file = encoded(noise(30, 50, 3))
    for name in "ab":
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "x.png").write_bytes(file)
    x, _ = next(iter(load(f"folder:{tmp_path}", "test", image_size=(8, 8))))
    np.testing.assert_array_equal(decode(file, encoded(noise(8, 8, 3)))[0] / np.float32(255), x[0])


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


def exif(orientation, order="<"):
    """Returns what a camera writes, in one of the two orders of bytes."""
    written = Image.Exif()
    written.endian = order
    written[0x010F], written[0x0112] = "maker", orientation
    return written


# Height and width differ in the file; where the camera was held upright they fit `shape` only after the turn.
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_is_turned_as_a_viewer_shows_it(decode, form, orientation):
    pixels = np.kron(noise(2, 3, 3), np.ones((16, 16, 1), "uint8"))
    for order in "<>":
        file = encoded(pixels, form, exif=exif(orientation, order))
        stored = Image.fromarray(tf.io.decode_image(file).numpy())
        stored.getexif()[0x0112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(stored))
        np.testing.assert_array_equal(decode(file, shape=expected.shape)[0], expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_ignored(decode, orientation):
    file = encoded(noise(8, 8, 3), "JPEG", exif=exif(orientation))
    np.testing.assert_array_equal(decode(file)[0], tf.io.decode_image(file))


def test_damaged_exif_data_never_stops_a_picture(decode):
    pixels, chance = noise(8, 8, 3), random.Random(0)
    whole = exif(6).tobytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(6, len(whole))] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
        damaged = bytes(damaged[: chance.randrange(6, len(whole) + 1)])
        assert decode(encoded(pixels, "JPEG", exif=damaged)).shape == (1, 8, 8, 3)


def test_inks_become_colours_and_gray(decode):
    inks = Image.fromarray(np.kron(noise(2, 2, 3), np.ones((16, 16, 1), "uint8"))).convert("CMYK")
    file = io.BytesIO()
    inks.save(file, "JPEG", quality=95)
    expected = np.asarray(Image.open(file).convert("RGB"))
    np.testing.assert_allclose(decode(file.getvalue(), shape=(32, 32, 3))[0], expected, atol=1)
    gray = np.asarray(Image.open(file).convert("RGB").convert("L"))
    np.testing.assert_allclose(decode(file.getvalue(), shape=(32, 32, 1))[0, ..., 0], gray, atol=1)


def test_a_progressive_picture_is_read_and_one_of_repeated_scans_refused(decode):
    usual = encoded(noise(80, 80, 3), "JPEG", progressive=True)
    assert usual.count(b"\xff\xda") == 10
    assert decode(usual).shape == (1, 8, 8, 3)
    large = encoded(np.full((4000, 4000, 3), 128, "uint8"), "JPEG", progressive=True)
    scan = large[large.rindex(b"\xff\xda") : -2]

    def seconds(copies):
        """Returns the CPU time that a picture takes with a scan repeated."""
        began = time.process_time()
        decode(large[:-2] + scan * copies + large[-2:])
        return time.process_time() - began

    assert seconds(40) < 8  # measured: 1.7
    began = time.process_time()
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 50 scans"):
        seconds(1000)  # these would take 28
    assert time.process_time() - began < 0.5


def test_what_follows_a_picture_is_left_out(decode):
    """Telephones write a second picture or a film of a few MB behind the first."""
    file = encoded(noise(8, 8, 3), "JPEG")
    behind = np.random.default_rng(0).bytes(1 << 22) + encoded(noise(8, 8, 3), "JPEG", exif=exif(3))
    np.testing.assert_array_equal(decode(file + behind), decode(file))
