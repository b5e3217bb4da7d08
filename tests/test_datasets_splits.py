import numpy as np
import pytest

from svae.datasets.splits import shuffled

GOLDEN_10 = [3, 1, 0, 7, 8, 5, 2, 4, 6, 9]
GOLDEN_50000 = [22809, 16625, 45491, 23380, 34471]


@pytest.mark.parametrize("count", [0, 1, 2, 100, 50_000])
def test_a_permutation(count):
    assert np.array_equal(np.sort(shuffled(count)), np.arange(count))


def test_it_never_changes():
    """These positions decide which images are held out; a change would mix old splits."""
    assert shuffled(10).tolist() == GOLDEN_10
    assert shuffled(50_000)[-5:].tolist() == GOLDEN_50000


def test_no_seed_of_the_user_matters():
    before = shuffled(1000)
    np.random.seed(1)  # noqa: NPY002 (the state that a user's code may set)
    assert np.array_equal(shuffled(1000), before)


def test_neighbours_are_parted():
    order = shuffled(5000)
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.005
