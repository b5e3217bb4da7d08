"""Making a model without touching the random numbers of the program that loads it."""

import contextlib
import random
import threading
from collections.abc import Iterator

import keras

_ONE_AT_A_TIME = threading.Lock()


@contextlib.contextmanager
def seeds_kept() -> Iterator[None]:
    """Leave the generators of Python, NumPy, TensorFlow and Keras as they are.

    A SpatialVAE seeds all of them before it draws its initial weights, which those of a finished
    run then replace. Seeding cannot be undone: tf.random.set_seed also resets the counters of
    TensorFlow's operations, which nothing can read. Within the block, this thread's calls of
    keras.utils.set_random_seed therefore do nothing. Keras draws the seeds of initial weights from
    Python's generator, whose state is restored at the end.
    """
    original, here = keras.utils.set_random_seed, threading.get_ident()

    def seed_others(seed: int) -> None:
        if threading.get_ident() != here:
            original(seed)

    with _ONE_AT_A_TIME:
        state = random.getstate()
        original = keras.utils.set_random_seed
        keras.utils.set_random_seed = seed_others
        try:
            yield
        finally:
            keras.utils.set_random_seed = original
            random.setstate(state)
