"""The log ratio to linear VAEs and its mean over log R, on curves whose answers are known."""

import math

import numpy as np
import pytest
from helpers.spectra import make_images, make_spectrum
from scipy.integrate import quad

from svae.report.log_ratios import (
    Measured,
    log_ratio,
    mean_and_error,
    mean_over_log_rate,
    rates,
    shared_rates,
)
from svae.scores.linear_vae_curve import coordinates, expected

SPECTRUM = make_spectrum(make_images(500, 1))
TEST = coordinates(SPECTRUM, make_images(400, 5), 12)
VAES = {entries: expected(SPECTRUM, entries) for entries in (2, 12)}
WEIGHTS = (0.8, 0.3, 0.1, 0.03, 0.01)


def run_of(w, entries=12, ratio=0.0, noise=0.0, seed=0):
    """The linear VAE itself, with its SSE multiplied by exp(ratio), and noise in single images."""
    kl, sse = TEST.first(entries).terms(w)
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, noise, len(sse)) if noise else 0.0
    train_rate, train_sse = VAES[entries].terms(w)
    return Measured(
        w, entries, sse * math.exp(ratio) + shift, kl, (train_rate, train_sse * math.exp(ratio))
    )


def found(runs, families):
    return rates(runs, families, TEST, VAES)


def family_of(name, ratio, entries=12, seeds=1, weights=WEIGHTS):
    """Runs and members; ratio: of a rate and a seed."""
    runs = {}
    for w in weights:
        rate = float(TEST.first(entries).terms(w)[0].mean())
        runs[f"{name}_w{w:g}"] = [run_of(w, entries, ratio(rate, seed)) for seed in range(seeds)]
    return runs


@pytest.mark.parametrize("entries", [2, 12])
def test_linear_vaes_have_the_ratio_0(entries):
    runs = family_of("a", lambda rate, seed: 0.0, entries)
    result = found(runs, {"a": list(runs)})
    for (point,) in result.points.values():
        assert point.log_ratio == pytest.approx(0, abs=1e-9)
        assert point.log_ratio_error == pytest.approx(0, abs=1e-6)
        assert point.train_log_ratio == pytest.approx(0, abs=1e-9)
    curve = result.families["a"]
    assert curve.mean_log_ratio == pytest.approx([0], abs=1e-9)
    assert curve.mean_log_ratio_error_over_images == pytest.approx(0, abs=1e-9)
    reached = TEST.first(entries).mean().distortion_at(result.middle)
    assert curve.sse == pytest.approx([reached])


def test_a_constant_ratio_is_the_mean_of_each_seed():
    runs = family_of("a", lambda rate, seed: 0.03 + 0.01 * seed, seeds=3)
    runs |= family_of("b", lambda rate, seed: -0.02, seeds=3, weights=(0.5, 0.02))
    members = {name: [each for each in runs if each.startswith(name)] for name in "ab"}
    result = found(runs, members)
    assert result.families["a"].mean_log_ratio == pytest.approx([0.03, 0.04, 0.05])
    assert result.families["b"].mean_log_ratio == pytest.approx(3 * [-0.02])
    # The rates of b lie within those of a.
    ends = [float(TEST.terms(w)[0].mean()) for w in (0.5, 0.02)]
    assert result.common == pytest.approx(ends)
    assert result.middle == pytest.approx(math.sqrt(ends[0] * ends[1]))
    reached = TEST.mean().distortion_at(result.middle)
    assert result.families["a"].sse == pytest.approx(reached * np.exp([0.03, 0.04, 0.05]))
    for index, point in enumerate(result.points["a_w0.1"]):
        assert point.log_ratio == pytest.approx(0.03 + 0.01 * index)
        assert point.train_log_ratio == pytest.approx(0.03 + 0.01 * index)


def test_the_mean_is_over_log_rate():
    """A ratio linear in log R, of which the mean is that of the ends; and a curved one."""
    runs = family_of("a", lambda rate, seed: 0.1 * math.log(rate))
    result = found(runs, {"a": list(runs)})
    assert result.families["a"].mean_log_ratio == pytest.approx([0.1 * math.log(result.middle)])
    dense = np.geomspace(0.8, 0.002, 40)
    runs = family_of("a", lambda rate, seed: 0.1 * math.sin(rate), weights=dense)
    result = found(runs, {"a": list(runs)})
    low, high = np.log(result.common)
    area = quad(lambda log_rate: 0.1 * math.sin(math.exp(log_rate)), low, high, limit=200)[0]
    assert result.families["a"].mean_log_ratio == pytest.approx([area / (high - low)], abs=1e-3)


@pytest.mark.parametrize(("low", "high"), [(1, 16), (2, 8), (1.5, 3), (5, 6)])
def test_the_mean_between_two_rates(low, high):
    rate, value = np.array([1.0, 2.0, 4.0, 16.0]), np.array([0.3, -0.1, 0.2, 0.25])
    mean = quad(
        lambda at: np.interp(at, np.log(rate), value),
        math.log(low),
        math.log(high),
        points=[math.log(each) for each in (2, 4) if low < each < high] or None,
    )[0] / math.log(high / low)
    assert mean_over_log_rate(rate, value, low, high) == pytest.approx(mean)


def test_a_chord_of_the_curve_itself_would_be_too_low():
    """Why the ratio is interpolated: between two points of one curve, w 16 times apart."""
    linear = TEST.mean()
    (low, d_low), (high, d_high) = linear.terms(0.48), linear.terms(0.03)
    middle = math.sqrt(low * high)
    assert math.log(d_low * d_high) / 2 < math.log(linear.distortion_at(middle)) - 0.01


def test_the_rates_that_all_curves_have():
    one, other = np.array([1.0, 9.0]), np.array([2.0, 5.0, 30.0])
    assert shared_rates([one, other]) == (2, 9)
    assert shared_rates([one, np.array([9.0, 12.0])]) is None
    assert shared_rates([one, np.array([11.0, 12.0])]) is None
    assert shared_rates([]) is None


def test_families_that_share_no_rates_have_no_mean():
    runs = family_of("a", lambda rate, seed: 0.0, weights=(0.8, 0.7))
    runs |= family_of("b", lambda rate, seed: 0.0, weights=(0.02, 0.01))
    members = {name: [each for each in runs if each.startswith(name)] for name in "ab"}
    result = found(runs, members)
    assert result.common is None and result.middle is None
    assert {each.mean_log_ratio for each in result.families.values()} == {None}
    assert all(point.log_ratio is not None for each in result.points.values() for point in each)


def test_a_single_weight_is_no_curve():
    runs = family_of("a", lambda rate, seed: 0.2) | family_of("b", lambda r, s: 0.1, weights=(0.2,))
    result = found(runs, {"a": [name for name in runs if name != "b_w0.2"], "b": ["b_w0.2"]})
    assert result.families["b"].mean_log_ratio is None
    assert result.families["a"].mean_log_ratio == pytest.approx([0.2])
    assert found(runs, {}).families == {}


@pytest.mark.parametrize("broken", ["sse", "kl", "collapsed"])
def test_a_run_without_finite_values_has_no_ratio(broken):
    runs = family_of("a", lambda rate, seed: 0.2)
    (lost,) = runs["a_w0.1"]
    if broken == "collapsed":
        lost = Measured(lost.weight, 12, lost.sse, 0 * lost.kl, (0.0, lost.train[1]))
    else:
        values = {"sse": lost.sse, "kl": lost.kl, broken: np.full(400, np.nan)}
        lost = Measured(lost.weight, 12, values["sse"], values["kl"], (np.nan, np.nan))
    runs["a_w0.1"] = [lost]
    result = found(runs, {"a": list(runs)})
    (point,) = result.points["a_w0.1"]
    assert point.log_ratio is None and point.train_log_ratio is None
    assert result.families["a"].mean_log_ratio == pytest.approx([0.2])


def test_the_sse_at_the_common_rate_of_one_weight():
    """J - w R0, with R0 the mean rate of the runs of equal w."""
    runs = {
        "a": [Measured(2.0, 12, np.array([8.0, 10.0]), np.array([3.0, 5.0]), (1.0, 1.0))],
        "b": [Measured(2.0, 12, np.array([6.0, 10.0]), np.array([6.0, 6.0]), (1.0, 1.0))],
        "c": [Measured(0.5, 12, np.array([4.0, 4.0]), np.array([9.0, 9.0]), (1.0, 1.0))],
    }
    result = rates(runs, {}, of_images([0, 1]), VAES)
    points = {name: each[0] for name, each in result.points.items()}
    assert [point.common_rate for point in points.values()] == [5, 5, 9]
    assert [point.sse_at_common_rate for point in points.values()] == [
        9 + 2 * 4 - 2 * 5,
        8 + 2 * 6 - 2 * 5,
        4,
    ]
    assert points["a"].rate_error == pytest.approx(1) and points["a"].sse_error == pytest.approx(1)


def resampled(statistic, count=300):
    """The bootstrap's standard error: the statistic of images drawn with replacement."""
    rng = np.random.default_rng(9)
    n = len(TEST.rest)
    return np.std([statistic(rng.integers(n, size=n)) for _ in range(count)], ddof=1)


def chosen(run, images):
    return Measured(run.weight, run.latent_entries, run.sse[images], run.kl[images], run.train)


def of_images(images):
    return type(TEST)(TEST.eigenvalues, TEST.squares[images], TEST.rest[images])


def test_the_error_of_a_ratio_is_that_of_the_bootstrap():
    run = run_of(0.4, ratio=0.1, noise=0.05)

    def statistic(images):
        vaes = of_images(images)
        return log_ratio(chosen(run, images), vaes, vaes.mean())[0]

    error = log_ratio(run, TEST, TEST.mean())[1]
    assert error == pytest.approx(resampled(statistic), rel=0.15)
    # The images of run and linear VAE are the same: their common part cancels.
    assert error < 0.5 * run.sse.std() / run.sse.mean() / math.sqrt(400)


@pytest.mark.slow
def test_the_error_of_a_mean_over_images_is_that_of_the_bootstrap():
    runs = {f"a_w{w:g}": [run_of(w, ratio=0.1, noise=0.02)] for w in (0.4, 0.1)}
    whole = found(runs, {"a": list(runs)})

    def statistic(images):
        drawn = {name: [chosen(run, images)] for name, (run,) in runs.items()}
        result = rates(drawn, {"a": list(runs)}, of_images(images), VAES)
        return result.families["a"].mean_log_ratio[0]

    expected_error = resampled(statistic, 80)
    error = whole.families["a"].mean_log_ratio_error_over_images
    assert error == pytest.approx(expected_error, rel=0.4)


def test_mean_and_error_over_seeds():
    assert mean_and_error([1.0, 2.0, 4.5]) == pytest.approx((2.5, 1.0408), rel=1e-4)
    assert mean_and_error([1.5]) == (1.5, None)
    assert mean_and_error(None) == (None, None)
