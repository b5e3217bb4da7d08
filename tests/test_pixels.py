"""Floats are converted to the nearest byte."""

import numpy as np

from svae.pixels import scale, to_bytes

BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)


def test_every_byte_is_restored():
    found = to_bytes(scale(BYTES))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, BYTES)


def test_the_nearest_byte_is_taken():
    for shift in (-0.49, 0.49):
        np.testing.assert_array_equal(to_bytes((BYTES + shift) / 127.5 - 1), BYTES)


def test_values_beyond_black_and_white_are_clipped():
    np.testing.assert_array_equal(to_bytes(np.array([-9.0, -1.01, 1.01, np.inf])), [0, 0, 255, 255])
