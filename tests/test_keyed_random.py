"""Random numbers by key: their distribution, and that they depend only on the key."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from svae.model import keyed_random

KEY = tf.constant([3, 1], tf.int64)


def compiled_and_not(function, *arguments):
    return (tf.function(function, jit_compile=compiled)(*arguments) for compiled in (False, True))


def test_normal_numbers_are_normal():
    found = keyed_random.normal((400, 500), KEY).numpy()
    assert found.dtype == np.float32 and found.shape == (400, 500)
    assert np.abs(found).max() < 5.8
    assert stats.kstest(found.ravel(), "norm").pvalue > 0.01
    for power, expected in ((1, 0), (2, 1), (3, 0), (4, 3)):
        spread = (found.astype(np.float64) ** power).std() / np.sqrt(found.size)
        assert abs(np.mean(found.astype(np.float64) ** power) - expected) < 4 * spread
    for shift in (1, 500):  # neighbours in either direction
        correlation = np.corrcoef(found.ravel()[:-shift], found.ravel()[shift:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(found.size)


def test_normal_numbers_depend_only_on_their_key():
    first, again = (
        keyed_random.normal((50,), KEY).numpy(),
        keyed_random.normal(tf.constant([50]), KEY).numpy(),
    )
    np.testing.assert_array_equal(first, again)
    for key in ([3, 2], [4, 1]):
        other = keyed_random.normal((50,), tf.constant(key, tf.int64)).numpy()
        assert not np.any(other == first)


def test_normal_numbers_are_the_same_with_xla():
    plain, xla = compiled_and_not(lambda: keyed_random.normal((70, 3), KEY))
    np.testing.assert_allclose(plain, xla, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout(rate, dtype):
    x = tf.cast(tf.fill((300, 200), 3.0), dtype)
    plain, xla = compiled_and_not(lambda: keyed_random.dropout(x, rate, KEY))
    assert plain.dtype == x.dtype
    plain, xla = (tf.cast(values, tf.float32).numpy() for values in (plain, xla))
    gone = plain == 0
    np.testing.assert_array_equal(gone, xla == 0)
    for values in (plain, xla):  # a half rounds 1 - rate too
        np.testing.assert_allclose(values[~gone], 3 / (1 - rate), rtol=1e-2)
    assert abs(gone.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / gone.size)
    # the same entries in every type
    np.testing.assert_array_equal(
        gone, keyed_random.dropout(tf.ones(x.shape), rate, KEY).numpy() == 0
    )
