"""Rate and distortion of all runs, next to linear VAEs with as many latent entries.

A run is a point: its rate R, the mean KL of test images in nats, and its distortion D, their mean
SSE. Its log ratio is log D - log D', where D' is the distortion of the linear VAE with as many
entries at the rate R, on the same images (svae.scores.linear_vae_curve). It is below 0 where the
run is better.

The runs of a family, which differ only in the KL weight, are points of one curve. Its statistic is
the mean of the log ratio over log R, on the rates that the curves of all families and seeds share.
Between two points the log ratio is interpolated linearly in log R. It varies far less than log D
itself, which is concave in log R, so that a chord would lie below it. So linear VAEs have exactly
0, and a curve in a constant ratio to theirs has exactly its log.

Errors over seeds are standard errors of the mean of one curve per seed. Those over images are by
the jackknife, which leaves each group of images out of the runs and the linear VAEs together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from svae.scores.linear_vae_curve import Coordinates, LinearVaes

GROUPS = 20  # of test images, for the jackknife
STEP = 1e-4  # of w, relative, for a slope
SAME = 1e-6  # largest relative difference of two w that count as one


@dataclass(frozen=True, eq=False)
class Measured:
    """What one run left."""

    weight: float
    """w; under the ELBO, the equivalent one."""
    latent_entries: int
    sse: np.ndarray
    """Of every test image, from one posterior sample: float64 (n,)."""
    kl: np.ndarray
    """Of every test image, in nats: float64 (n,)."""
    train: tuple[float, float]
    """Mean KL in nats and mean SSE of the training images."""


@dataclass(frozen=True)
class Point:
    """One run, with means over the test images. None where a value is not finite or the rate is not
    above 0."""

    weight: float
    latent_entries: int
    rate: float
    rate_error: float
    sse: float
    sse_error: float
    log_ratio: float | None
    log_ratio_error: float | None
    """Standard error over test images, which the run and the linear VAE share."""
    train_rate: float
    train_sse: float
    train_log_ratio: float | None
    """To the linear VAE on training images, in closed form."""
    common_rate: float
    """The mean rate of all runs of this w."""
    sse_at_common_rate: float
    """To first order: SSE + w (R - R0), since dSSE/dKL = -w at an optimum of SSE + w KL."""


@dataclass(frozen=True)
class FamilyCurve:
    """The statistics of one family; None where there are none."""

    mean_log_ratio: Sequence[float] | None = None
    """One per seed."""
    mean_log_ratio_error_over_images: float | None = None
    sse: Sequence[float] | None = None
    """At the middle of the common rates, in log R: one per seed."""
    sse_error_over_images: float | None = None


@dataclass(frozen=True)
class Rates:
    """All points and curves."""

    points: Mapping[str, Sequence[Point]]
    """Variant -> one per seed."""
    families: Mapping[str, FamilyCurve]
    common: tuple[float, float] | None
    """The rates that the curves of all families and seeds share, in nats."""

    @property
    def middle(self) -> float | None:
        """The rate in the middle of `common`, in log R."""
        return None if self.common is None else math.sqrt(self.common[0] * self.common[1])


def mean_and_error(values: Sequence[float] | None) -> tuple[float | None, float | None]:
    """Of one value per seed: the mean, and its standard error over seeds; None for what does not
    exist."""
    if values is None:
        return None, None
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return float(np.mean(values)), error


def rates(
    runs: Mapping[str, Sequence[Measured]],
    families: Mapping[str, Sequence[str]],
    test: Coordinates,
    train: Mapping[int, LinearVaes],
) -> Rates:
    """All points and curves.

    runs: variant -> one per seed. families: name -> its variants. test: the test images, for the
    largest number of latent entries. train: number of entries -> linear VAEs on training images.
    """
    vaes = {entries: test.first(entries) for entries in train}
    means = {entries: coordinates.mean() for entries, coordinates in vaes.items()}
    everything = [run for each in runs.values() for run in each]
    points = {
        name: [
            _point(
                run,
                vaes[run.latent_entries],
                means[run.latent_entries],
                train[run.latent_entries],
                everything,
            )
            for run in each
        ]
        for name, each in runs.items()
    }
    whole = np.ones(test.squares.shape[0], bool)
    curves = {name: _curves(runs, members, means, whole) for name, members in families.items()}
    usable = {name: each for name, each in curves.items() if all(map(_is_curve, each))}
    common = shared_rates([rate for each in usable.values() for rate, _ in each])
    found = {name: FamilyCurve() for name in families}
    if common is not None:
        for name, each in usable.items():
            found[name] = _family(runs, families[name], each, vaes, means, common)
    return Rates(points, found, common)


def shared_rates(curves: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The lowest and the highest rate that all curves have, each given by its rates (k,) in rising
    order; None if there is no such range."""
    if not curves:
        return None
    low, high = max(rate[0] for rate in curves), min(rate[-1] for rate in curves)
    return (float(low), float(high)) if low < high else None


def mean_over_log_rate(rate: np.ndarray, value: np.ndarray, low: float, high: float) -> float:
    """The mean of a value over log R from `low` to `high`, linear between the points. rate, value:
    (k,), by rising rate, from at most `low` to at least `high`."""
    at, ends = np.log(rate), np.log([low, high])
    inner = at[(at > ends[0]) & (at < ends[1])]
    knots = np.concatenate([ends[:1], inner, ends[1:]])
    return float(np.trapezoid(np.interp(knots, at, value), knots) / (ends[1] - ends[0]))


def log_ratio(run: Measured, vaes: Coordinates, mean: LinearVaes) -> tuple[float, float]:
    """The log ratio of a run to the linear VAE of its rate, and its standard error over test
    images: to first order, with the slope dD'/dR for what the rates of the two change.
    """
    rate, sse = float(run.kl.mean()), float(run.sse.mean())
    w = mean.weight_at(rate)
    linear_kl, linear_sse = vaes.terms(w)
    reached = mean.terms(w)[1]
    (rate_1, sse_1), (rate_2, sse_2) = mean.terms(w * (1 - STEP)), mean.terms(w * (1 + STEP))
    slope = (sse_2 - sse_1) / (rate_2 - rate_1) if rate_2 < rate_1 else 0.0
    moved = run.sse / sse - (linear_sse + slope * (run.kl - linear_kl)) / reached
    return math.log(sse / reached), float(moved.std(ddof=1) / math.sqrt(len(moved)))


def _point(
    run: Measured,
    vaes: Coordinates,
    mean: LinearVaes,
    train: LinearVaes,
    everything: Sequence[Measured],
) -> Point:
    n = len(run.kl)
    rate, sse = float(run.kl.mean()), float(run.sse.mean())
    same = [
        float(other.kl.mean())
        for other in everything
        if math.isclose(other.weight, run.weight, rel_tol=SAME)
    ]
    common = float(np.mean(same))
    value, error = log_ratio(run, vaes, mean) if _is_point(rate, sse) else (None, None)
    train_rate, train_sse = run.train
    return Point(
        weight=run.weight,
        latent_entries=run.latent_entries,
        rate=rate,
        rate_error=float(run.kl.std(ddof=1) / math.sqrt(n)),
        sse=sse,
        sse_error=float(run.sse.std(ddof=1) / math.sqrt(n)),
        log_ratio=value,
        log_ratio_error=error,
        train_rate=train_rate,
        train_sse=train_sse,
        train_log_ratio=(
            math.log(train_sse / train.distortion_at(train_rate))
            if _is_point(train_rate, train_sse)
            else None
        ),
        common_rate=common,
        sse_at_common_rate=sse + run.weight * (rate - common),
    )


def _is_point(rate: float, sse: float) -> bool:
    return math.isfinite(rate) and math.isfinite(sse) and rate > 0 and sse > 0


Curve = tuple[np.ndarray, np.ndarray]  # rates in rising order, and log ratios: (k,) each


def _is_curve(curve: Curve) -> bool:
    return len(curve[0]) > 1


def _curves(
    runs: Mapping[str, Sequence[Measured]],
    members: Sequence[str],
    means: Mapping[int, LinearVaes],
    images: np.ndarray,
) -> list[Curve]:
    """The curve of each seed of a family, on some of the images (a mask)."""
    found = []
    for seed in range(len(runs[members[0]])):
        points = []
        for name in members:
            run = runs[name][seed]
            rate, sse = float(run.kl[images].mean()), float(run.sse[images].mean())
            if _is_point(rate, sse):
                reached = means[run.latent_entries].distortion_at(rate)
                points.append((rate, math.log(sse / reached)))
        by_rate = np.array(sorted(points)).reshape(-1, 2)
        found.append((by_rate[:, 0], by_rate[:, 1]))
    return found


def _family(
    runs: Mapping[str, Sequence[Measured]],
    members: Sequence[str],
    curves: Sequence[Curve],
    vaes: Mapping[int, Coordinates],
    means: Mapping[int, LinearVaes],
    common: tuple[float, float],
) -> FamilyCurve:
    entries = runs[members[0]][0].latent_entries
    ratios, sses = _statistics(curves, means[entries], common)
    coordinates = vaes[entries]
    group = np.arange(len(coordinates.rest)) % GROUPS
    left_out = []
    for k in range(min(GROUPS, len(group))):
        kept = group != k
        mean = Coordinates(
            coordinates.eigenvalues, coordinates.squares[kept], coordinates.rest[kept]
        ).mean()
        again = _curves(runs, members, {entries: mean}, kept)
        found = _statistics(again, mean, common)
        left_out.append([np.mean(found[0]), np.mean(found[1])])
    spread = np.array(left_out) - np.mean(left_out, axis=0)
    errors = np.sqrt((len(spread) - 1) / len(spread) * np.square(spread).sum(axis=0))
    return FamilyCurve(ratios, float(errors[0]), sses, float(errors[1]))


def _statistics(
    curves: Sequence[Curve], mean: LinearVaes, common: tuple[float, float]
) -> tuple[list[float], list[float]]:
    """The mean log ratio, and the SSE at the middle of the common rates: one per curve."""
    middle = math.sqrt(common[0] * common[1])
    reached = mean.distortion_at(middle)
    return (
        [mean_over_log_rate(*curve, *common) for curve in curves],
        [
            reached * math.exp(float(np.interp(math.log(middle), np.log(rate), value)))
            for rate, value in curves
        ],
    )
