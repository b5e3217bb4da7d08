"""Paired differences compared with scipy, for one seed and for several."""

import itertools

import numpy as np
import pytest
import scipy.stats
from svae.report.paired_differences import all_pairs, paired_difference, read_scores

from svae.errors import UserError
from svae.report.seeds import by_variant

NAMES = ["naive", "vanilla", "own"]


def scores(seeds, images=40):
    """Scores that the variants share except for a shift and some noise."""
    rng = np.random.default_rng(seeds)
    shared = rng.normal(-1000, 100, images)
    return {
        name: shared + rng.normal(10 * shift, 5, (seeds, images))
        for shift, name in enumerate(NAMES)
    }


def test_a_difference_equals_the_paired_t_test():
    (first,), (second,), _ = scores(1).values()
    difference, error = paired_difference(first, second)
    expected = scipy.stats.ttest_rel(first, second)
    assert difference == pytest.approx(first.mean() - second.mean())
    assert error == pytest.approx(scipy.stats.sem(first - second))
    assert difference / error == pytest.approx(expected.statistic)
    # The mean score of one variant is far less certain than the difference.
    assert error < 0.2 * scipy.stats.sem(first)


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_every_pair_once_in_the_order_of_the_variants(seeds):
    found = scores(seeds)
    pairs = all_pairs(found)
    assert [(pair.first, pair.second) for pair in pairs] == list(itertools.combinations(NAMES, 2))
    for pair in pairs:
        first, second = found[pair.first], found[pair.second]
        over_images = first.mean(axis=0) - second.mean(axis=0)
        assert pair.difference == pytest.approx(over_images.mean())
        assert pair.standard_error == pytest.approx(scipy.stats.sem(over_images))
        if seeds == 1:
            assert pair.spread_over_seeds is None
        else:
            each = [a.mean() - b.mean() for a, b in zip(first, second, strict=True)]
            assert pair.spread_over_seeds == pytest.approx(np.std(each, ddof=1))


def test_one_variant_has_no_pair():
    assert all_pairs({"vanilla": np.zeros((2, 9))}) == []


@pytest.mark.parametrize("seeds", [1, 3])
def test_scores_are_read_variant_by_variant(tmp_path, seeds):
    written, paths = scores(seeds), []
    for name in NAMES:
        for seed, values in enumerate(written[name]):
            paths.append(tmp_path / f"{name}-{seed}.npz")
            np.savez(paths[-1], log_likelihood=values)
    found = read_scores(NAMES, paths)
    assert list(found) == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(found[name], written[name])


def test_only_equal_numbers_of_images_are_paired(tmp_path):
    message = r"40 and of 39 test images cannot be paired; delete results/"
    with pytest.raises(UserError, match=message):
        all_pairs({"vanilla": np.zeros((2, 40)), "naive": np.zeros((2, 39))})
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path, count in zip(paths, (39, 40), strict=True):
        np.savez(path, log_likelihood=np.zeros(count))
    with pytest.raises(UserError, match=message):
        read_scores(["vanilla"], paths)


def test_paths_are_assigned_in_order():
    paths = ["a0", "a1", "b0", "b1"]
    assert by_variant("ab", paths) == {"a": ["a0", "a1"], "b": ["b0", "b1"]}
    assert by_variant(["only"], paths) == {"only": paths}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_paths_that_cannot_be_assigned_are_refused(count):
    with pytest.raises(ValueError, match=f"{count} paths for 2 variants"):
        by_variant("ab", ["path"] * count)
