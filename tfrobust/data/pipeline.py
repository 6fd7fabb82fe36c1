"""Makes batches of images by `tf.data`, in an order that is a function of (seed, epoch)."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfrobust.data.augment import Augmentation
from tfrobust.data.stored import Stored
from tfrobust.utils.types import Tensor


def batches(
    x: Stored,
    y: np.ndarray,
    *,
    batch_size: int,
    shuffle: bool,
    augment: Augmentation | None,
    seed: int,
    first_epoch: int,
    steps_per_epoch: int | None = None,
) -> tf.data.Dataset:
    """Returns one epoch of batches over the images x, with labels y `(N,)`; see `load` for the other arguments."""
    with tf.device("CPU:0"):  # tf.data runs there
        labels, rows = tf.convert_to_tensor(y), tf.range(len(y), dtype=tf.int64)
    count = -(-len(y) // batch_size)

    def batch(order: Tensor, epoch: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        chosen = order[index * batch_size : (index + 1) * batch_size]  # the last batch may be smaller
        pixels = x.read(chosen)
        images = tf.cast(pixels, tf.float32)
        if pixels.dtype == tf.uint8:
            images /= 255.0
        if augment is not None:
            images = augment(images, tf.random.experimental.stateless_fold_in(_seeds(seed, epoch), index))
        return images, tf.gather(labels, chosen)

    if shuffle or augment is not None or steps_per_epoch:
        steps = steps_per_epoch or count
        dataset = _epochs(batch, rows, count, steps, shuffle=shuffle, seed=seed, first_epoch=first_epoch)
    else:
        dataset = tf.data.Dataset.range(count).map(
            lambda index: batch(rows, tf.constant(0, tf.int64), index), num_parallel_calls=tf.data.AUTOTUNE
        )
        dataset = dataset.prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    # Each worker reads all images and takes its share of the batches: there are no files to divide.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    # tf.data would append another prefetch after the step that counts the passes (see `_epochs`).
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


def _epochs(
    batch: Any, rows: Tensor, count: int, steps: int, *, shuffle: bool, seed: int, first_epoch: int
) -> tf.data.Dataset:
    """Returns a finite dataset that counts how often it was read to its end, and continues from there each time.

    The passes over the rows, each in its own order, form one long sequence of batches; an epoch is the next `steps` of
    them. The number of the epoch is a variable that is read at the start and raised with the last batch. Reading only
    the first batches changes nothing: Keras does so under a distribution strategy, and creates an iterator that it
    does not read at the end of every epoch.
    """
    with tf.device("CPU:0"):
        epochs = tf.Variable(first_epoch, dtype=tf.int64, trainable=False, name="epoch")

    def order_of(number: Tensor) -> Tensor:
        if not shuffle:
            return rows
        # A sort of random keys, once a pass (10 ms for 50 000). `index_shuffle` needs no memory, but runs four
        # rounds of its cipher: orders of successive epochs were correlated by 0.4 at n = 60 000.
        keys = tf.random.stateless_uniform(
            tf.shape(rows), _seeds(seed, number), minval=None, maxval=None, dtype=tf.int64, alg="philox"
        )
        return tf.cast(tf.argsort(keys, stable=True), tf.int64)

    def one_epoch(_: Tensor) -> tf.data.Dataset:
        epoch = epochs.read_value()
        first, end = epoch * steps, (epoch + 1) * steps

        def one_pass(number: Tensor) -> tf.data.Dataset:
            order, before = order_of(number), number * count

            def numbered(index: Tensor) -> tuple[Tensor, Tensor]:
                done = epoch + tf.cast(before + index == end - 1, tf.int64)
                return done, batch(order, number, index)

            indices = tf.data.Dataset.range(tf.maximum(first - before, 0), tf.minimum(end - before, count))
            return indices.map(numbered, num_parallel_calls=tf.data.AUTOTUNE)

        return tf.data.Dataset.range(first // count, (end - 1) // count + 1).flat_map(one_pass)

    def counted(done: Tensor, xy: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        epochs.assign(tf.maximum(epochs, done))
        return xy

    dataset = tf.data.Dataset.range(1).flat_map(one_epoch).prefetch(tf.data.AUTOTUNE)
    # After the prefetch, so that only requested batches are counted; sequential, so that they are counted in order.
    return dataset.map(counted).apply(tf.data.experimental.assert_cardinality(steps))


def _seeds(seed: int, epoch: Tensor) -> Tensor:
    return tf.stack([tf.constant(seed, tf.int64), epoch])
