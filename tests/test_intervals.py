"""Intervals of differences between variants: oracles, decisions, and what they hold in truth."""

import numpy as np
import pytest
import scipy.stats

from svae.errors import UserError
from svae.report.intervals import (
    ALPHA,
    against_the_first,
    compare,
    half_width,
    holm,
    p_values,
    standard_errors,
)


def study(n_variants, n_seeds, n_images, seed=0, over_seeds=3.0, over_images=30.0, alone=0.0):
    """Values of variants that do not differ in truth: effects of images, seeds and of both with
    variants; `alone`: of single images in single runs."""
    rng = np.random.default_rng(seed)
    common = 100 * rng.standard_normal(n_images) + 50 * rng.standard_normal((n_seeds, 1))
    return {
        f"v{v}": common
        + over_seeds * rng.standard_normal((n_seeds, 1))
        + over_images * rng.standard_normal(n_images)
        + alone * rng.standard_normal((n_seeds, n_images))
        for v in range(n_variants)
    }


class TestCompare:
    @pytest.mark.parametrize("n_seeds", [2, 3, 5])
    def test_without_an_image_error_two_variants_are_a_paired_t_test(self, n_seeds):
        values = study(2, n_seeds, 40, over_images=0)
        values["v1"] += 5
        (found,) = compare(values)
        means = [values[name].mean(axis=1) for name in ("v1", "v0")]
        expected = scipy.stats.ttest_rel(*means)
        assert (found.first, found.second) == ("v1", "v0")
        assert found.difference == pytest.approx(np.mean(means[0] - means[1]))
        assert found.standard_error == pytest.approx(scipy.stats.sem(means[0] - means[1]))
        assert found.error_over_images == pytest.approx(0, abs=1e-12)
        assert found.p == found.p_holm == pytest.approx(expected.pvalue)
        assert found.degrees_of_freedom == pytest.approx(n_seeds - 1)
        np.testing.assert_allclose(found.interval, expected.confidence_interval(0.95))
        assert found.deciding_interval == found.interval

    def test_without_a_spread_over_seeds_it_is_the_paired_t_test_over_images(self):
        values = study(2, 3, 25, over_seeds=0)
        (found,) = compare(values)
        expected = scipy.stats.ttest_rel(values["v1"][0], values["v0"][0])
        assert found.p == pytest.approx(expected.pvalue)
        assert found.standard_error == pytest.approx(found.error_over_images)
        assert found.degrees_of_freedom == pytest.approx(24)

    @pytest.mark.parametrize(("n_variants", "n_seeds"), [(2, 3), (3, 2), (4, 3), (7, 5)])
    def test_against_residuals_of_a_least_squares_fit(self, n_variants, n_seeds):
        """An analysis of variance by its design matrix, and sums by their definition."""
        values = study(n_variants, n_seeds, 50, seed=3, alone=20.0)
        means = np.stack(list(values.values())).mean(axis=2)
        of_variant = np.repeat(np.eye(n_variants), n_seeds, axis=0)
        of_seed = np.tile(np.eye(n_seeds), (n_variants, 1))
        design = np.hstack([of_variant, of_seed])
        fitted = design @ np.linalg.lstsq(design, means.ravel(), rcond=None)[0]
        squares = ((means.ravel() - fitted).reshape(means.shape) ** 2).sum(axis=1)
        freedom = (n_variants - 1) * (n_seeds - 1)
        pooled, each_has = squares.sum() / freedom, freedom / n_variants
        variance = {
            name: (0.1 * pooled + squares[v]) / (0.1 + each_has) for v, name in enumerate(values)
        }
        each_has += 0.35 if n_variants > 2 else 0
        for found in compare(
            values, [("v0", "v1"), ("v1", f"v{n_variants - 1}")][: n_variants - 1]
        ):
            d = values[found.first] - values[found.second]
            image = d.mean(axis=0).var(ddof=1) / 50
            assert found.error_over_images == pytest.approx(np.sqrt(image))
            of_both = [variance[found.first] / n_seeds, variance[found.second] / n_seeds]
            seeds = sum(of_both)
            assert found.error_over_seeds == pytest.approx(np.sqrt(seeds))
            left = d - d.mean(axis=0) - d.mean(axis=1, keepdims=True) + d.mean()
            image -= (left**2).sum() / (49 * (n_seeds - 1)) / (50 * n_seeds)
            assert found.standard_error == pytest.approx(np.sqrt(image + seeds))
            of_seeds = seeds**2 / sum(each**2 / each_has for each in of_both)
            limit = seeds * of_seeds / scipy.stats.chi2.ppf(0.25, of_seeds)
            expected = (image + limit) ** 2 / (image**2 / 49 + limit**2 / of_seeds)
            assert found.degrees_of_freedom == pytest.approx(expected)

    def test_what_images_and_seeds_both_count_is_counted_once(self):
        """All chance is of single images in single runs: the variance is 2 s^2 / (n S)."""
        found = [
            compare(study(2, 5, 60, seed, over_seeds=0, over_images=0, alone=10))[0]
            for seed in range(300)
        ]
        truth = 2 * 10**2 / (60 * 5)
        assert np.var([each.difference for each in found]) == pytest.approx(truth, rel=0.25)
        variances = [each.standard_error**2 for each in found]
        assert np.mean(variances) == pytest.approx(truth, rel=0.25)
        twice = [each.error_over_images**2 + each.error_over_seeds**2 for each in found]
        assert np.mean(twice) > 1.7 * truth

    @pytest.mark.parametrize("over_seeds", [3 / np.sqrt(2), 3], ids=["difference", "run"])
    def test_the_half_width_at_three_seeds_and_five_variants(self, over_seeds):
        """Seed s.d. (of a difference, or of one run) and image error of 3 nats: t with 2 degrees of
        freedom and Bonferroni over all pairs would make 49 of it (difference)."""
        widths = []
        for seed in range(200):
            values = study(5, 3, 400, seed, over_seeds, 3 * np.sqrt(200))
            for each in compare(values):
                assert each.deciding_interval[0] <= each.interval[0]
                widths.append(np.diff(each.deciding_interval)[0] / 2)
        assert 8 < np.median(widths) < 15 and np.mean(widths) < 15

    def test_one_seed_establishes_nothing(self):
        values = study(3, 1, 50)
        values["v1"] += 1e6
        for each in compare(values):
            d = values[each.first][0] - values[each.second][0]
            assert each.difference == pytest.approx(d.mean())
            assert each.error_over_images == pytest.approx(scipy.stats.sem(d))
            assert each.interval is each.deciding_interval is each.p is each.p_holm is None
            assert each.standard_error is each.degrees_of_freedom is None
            assert each.established is False

    def test_what_is_not_finite_is_left_out_of_the_pool_but_not_of_holm(self):
        values = study(4, 3, 50, seed=1)
        others = {name: values[name] for name in ("v0", "v1", "v3")}
        values["v2"][1, 7] = np.inf
        first, broken, third = compare(values)
        assert broken.difference is None and broken.established is False
        expected = compare(others)
        for found, each in zip((first, third), expected, strict=True):
            assert found.standard_error == each.standard_error and found.p == each.p
        smaller = min(first, third, key=lambda each: each.p)
        assert smaller.p_holm == pytest.approx(min(3 * smaller.p, 1))

    def test_a_variant_that_spreads_more_widens_its_own_intervals_only(self):
        values = study(6, 3, 50, over_images=0)
        *before, _ = compare(values)
        values["v5"] = values["v5"] + np.array([[-60], [0], [60]])
        *others, noisy = compare(values)
        of_pair = scipy.stats.sem((values["v5"] - values["v0"]).mean(axis=1))
        assert 0.85 * of_pair < noisy.error_over_seeds < 1.15 * of_pair
        assert noisy.degrees_of_freedom < 2.3
        widths = [np.diff(each.interval)[0] for each in others]
        assert max(widths) < 0.5 * np.diff(noisy.interval)[0]
        assert all(each.degrees_of_freedom > noisy.degrees_of_freedom for each in others)
        assert all(
            wide.error_over_seeds < 0.5 * of_pair and wide.error_over_seeds > each.error_over_seeds
            for wide, each in zip(others, before, strict=True)
        )

    def test_no_error_at_all(self):
        values = {"a": np.zeros((2, 3)), "b": np.zeros((2, 3)), "c": np.ones((2, 3))}
        same, other = compare(values)
        assert (same.p, same.established) == (1, False)
        assert (other.p, other.established, other.interval) == (0, True, (1, 1))

    def test_defaults_and_refusals(self):
        assert against_the_first(["a", "b", "c"]) == [("b", "a"), ("c", "a")]
        values = study(3, 2, 10)
        assert compare({}, []) == compare(values, []) == compare({"v0": values["v0"]}) == []
        for asked in ([("v0", "v0")], [("v0", "v1"), ("v1", "v0")]):
            with pytest.raises(
                UserError, match=r"v\d, v0 is a variant with itself, or asked twice"
            ):
                compare(values, asked)
        with pytest.raises(UserError, match="no variant other; choose of v0, v1, v2"):
            compare(values, [("v0", "other")])
        with pytest.raises(UserError, match=r"v0 \(2, 9\), v1 \(2, 10\)"):
            compare(values | {"v0": values["v0"][:, :9]})
        with pytest.raises(UserError, match=r"1 image\(s\)"):
            compare({name: each[:, :1] for name, each in values.items()})


class TestHolm:
    def test_adjusted_values_by_hand(self):
        adjusted, levels = holm(np.array([0.01, 0.04, 0.03, 0.005]), 4)
        np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])
        # rejected at 0.05 / 4 and 0.05 / 3, stopped at 0.05 / 2
        np.testing.assert_allclose(levels, [0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
        adjusted, levels = holm(np.array([[0.01, 0.04], [0.9, 0.6]]), 2)
        np.testing.assert_allclose(adjusted, [[0.02, 0.04], [1, 1]])
        np.testing.assert_allclose(levels, [[0.025, 0.05], [0.025, 0.025]])

    def test_the_deciding_interval_leaves_0_out_exactly_where_it_is_established(self):
        seen = set()
        for seed in range(60):
            values = study(5, 3, 200, seed, over_images=20)
            rng = np.random.default_rng([1, seed])
            values = {name: each + 8 * rng.standard_normal() for name, each in values.items()}
            for each in compare(values):
                low, high = each.deciding_interval
                assert each.established == (low > 0 or high < 0)
                seen.add(each.established)
        assert seen == {True, False}


SPREADS = {
    "equal": lambda n: np.ones(n),
    "rising": lambda n: np.geomspace(1, 2, n),
    "last three times": lambda n: np.r_[np.ones(n - 1), 3],
    "first three times": lambda n: np.r_[3, np.ones(n - 1)],
}


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("n_variants", [2, 3, 5, 12])
@pytest.mark.parametrize("image_error", [0.0, 1.5])
@pytest.mark.parametrize("spreads", SPREADS)
def test_coverage(n_seeds, n_variants, image_error, spreads):
    """Nominal 95 %: the mean over the comparisons lies within 93 and 98 %, and the chance of any
    false decision within 5 % and what its simulation cannot tell; spreads: of one run over seeds,
    variant by variant."""
    rng = np.random.default_rng([n_seeds, n_variants, int(2 * image_error), len(spreads)])
    rounds, spread = 3000, SPREADS[spreads](n_variants)
    pairs = np.stack([np.arange(1, n_variants), np.zeros(n_variants - 1, int)], axis=1)
    means = spread[:, None] * rng.standard_normal((rounds, n_variants, n_seeds))
    means += image_error / np.sqrt(2) * rng.standard_normal((rounds, n_variants, 1))
    difference = (means[:, 1:] - means[:, :1]).mean(axis=-1)
    errors = standard_errors(
        means, pairs, np.full((rounds, n_variants - 1), image_error**2), 10_000
    )
    half = half_width(errors, ALPHA)
    # A difference is independent of the residuals, on which its interval depends: its chance to be
    # held is known in each round, which shows the coverage more exactly than counting does.
    true = np.sqrt((spread[1:] ** 2 + spread[0] ** 2) / n_seeds + image_error**2)
    assert 0.93 <= (1 - 2 * scipy.stats.norm.sf(half / true)).mean() <= 0.98
    p = p_values(difference, errors)
    held = np.abs(difference) < half
    np.testing.assert_array_equal(held, p > ALPHA)
    assert 0.92 < held.mean() < 0.985
    adjusted, _ = holm(p, n_variants - 1)
    assert (adjusted <= ALPHA).any(axis=1).mean() < 0.07
