"""Differences between variants: standard errors over images and seeds, and what is established.

The model of a value of variant v, seed s and image i has effects of each, and of every two of them
together. All variants share the images and the seeds, so that in a difference of two variants the
effects of images and of seeds cancel. Two chances remain: which images there are (the effects of
image and variant together), and how a training turns out (those of seed and variant).

Image part. The standard error of the paired differences, averaged over the seeds. It holds as well
1 / S of what is left of single images in single runs, and so does the part of the seeds: what both
count, known from thousands of residuals, is taken off once.

Seed part. The variance over seeds is in the residuals of the means in the two-way layout variant x
seed. Their mean square over all V variants, the pooled variance, has (V - 1)(S - 1) degrees of
freedom, but it holds only if variants spread alike, which few seeds cannot confirm. Each variant's
own mean square has a V-th of these degrees; its mean is (V - 2) / (V - 1) times the variance of the
variant, and for the rest the mean variance of all. It is shrunk towards the pooled one, as in the
moderated t of Smyth (2004, Statistical Applications in Genetics and Molecular Biology 3, 3): the
pooled one counts as PRIOR_DEGREES of freedom, and EXTRA_DEGREES is what the shrunk variance gains.
A difference has the sum of two of them, with the degrees of freedom of Satterthwaite (1946,
Biometrics Bulletin 2, 110). For two variants, this is the paired t-test.

Smyth estimates his prior degrees of freedom from thousands of variances; from a few, with 1 to 4
degrees each, that is noise, so both constants are set by the simulation below. The prior is weak: a
stronger one makes intervals narrower if variants spread alike, and too narrow if the common variant
of all comparisons spreads three times as much as the others. Even so, it keeps a variance that is
close to 0 by chance from establishing anything.

Both parts together. Student's t with the degrees of freedom of Welch (1947, Biometrika 34, 28) and
Satterthwaite. Their formula takes an estimate for the ratio of the two variances. Over few seeds
that of the seeds is often far too low, and the degrees of freedom far too high: with 2 seeds and 2
variants a nominal 95 % interval holds the truth in 87 %. So the upper 75 % confidence limit of the
seeds' variance stands in that formula (and only there), which with many degrees of freedom is the
variance itself.

Decisions are by Holm (1979, Scandinavian Journal of Statistics 6, 65) over the comparisons that
were asked beforehand: the chance that any difference of 0 is called established is about 5 %.

In simulation (`python benchmarks/coverage.py`, docs/coverage.csv: 2, 3 and 5 seeds, 2 to 12
variants, with and without an image error) nominal 95 % intervals hold the truth, on average over
the comparisons, in 94.6 to 97.4 % if variants spread alike, in 94.3 to 97.7 % if one spreads twice
as much or spreads rise or fall up to twofold, and in 93.3 to 97.7 % if one spreads three times as
much. A false decision is made in at most 5.8 % of the studies. The limit is a variant, common to
all comparisons, that spreads still more: at five times, with 2 seeds and 12 variants, it is 91 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtri, stdtr, stdtrit

from svae.errors import UserError

ALPHA = 0.05
PRIOR_DEGREES = 0.1  # of freedom: the weight of the pooled variance in that of a variant
EXTRA_DEGREES = 0.35  # of freedom: what the variance of a variant gains by it
RATIO_CONFIDENCE = 0.75  # of the limit of the seeds' variance in the degrees of freedom


@dataclass(frozen=True)
class Comparison:
    """How much higher the first variant is than the second, in the unit of the values.

    With one seed only the difference and its error over images are known, and nothing is
    established; with values that are not finite, not even these are.
    """

    first: str
    second: str
    difference: float | None
    """Mean over images and seeds of first - second."""
    error_over_images: float | None
    """Its standard error over images, of the paired differences averaged over the seeds."""
    error_over_seeds: float | None = None
    """Its standard error over seeds; the variance of each variant is shrunk to the pooled one."""
    standard_error: float | None = None
    """Of both together; what both count is counted once."""
    degrees_of_freedom: float | None = None
    p: float | None = None
    """Two-sided, of a difference of 0, for this comparison by itself."""
    p_holm: float | None = None
    """Adjusted for all comparisons asked: established where it is at most 0.05."""
    established: bool = False
    interval: tuple[float, float] | None = None
    """Holds the difference with 95 % confidence, for this comparison by itself."""
    deciding_interval: tuple[float, float] | None = None
    """At the level at which Holm's procedure judges this comparison, or stopped before it: 0 lies
    outside exactly where the difference is established. It is for 0 only that these intervals hold
    together with 95 % confidence (simultaneous intervals that fit Holm's decisions say little where
    it rejects: Strassburger, Bretz 2008, Statistics in Medicine 27, 4914)."""


class Errors(NamedTuple):
    """Each (..., n_pairs)."""

    standard_error: np.ndarray
    degrees_of_freedom: np.ndarray
    error_over_seeds: np.ndarray


def against_the_first(variants: Sequence[str]) -> list[tuple[str, str]]:
    """The comparisons where none are asked: every other variant with the first."""
    return [(name, variants[0]) for name in variants[1:]]


def compare(
    values: Mapping[str, np.ndarray], comparisons: Sequence[tuple[str, str]] | None = None
) -> list[Comparison]:
    """The comparisons asked, (first, second) each, in their order; None: every variant against the
    first.

    values: variant -> (n_seeds, n_images), one measure of every image under the run of every seed;
    seeds and images are the same for all. Variants that are not compared count for the pooled
    variance, too. UserError for different numbers of images or seeds, fewer than 2 images, unknown
    names, a variant compared with itself and a pair that is asked twice.
    """
    names = list(values)
    asked = against_the_first(names) if comparisons is None else [(a, b) for a, b in comparisons]
    _check(values, asked)
    arrays = {name: np.asarray(array, np.float64) for name, array in values.items()}
    finite = [name for name, array in arrays.items() if np.isfinite(array).all()]
    known = [k for k, pair in enumerate(asked) if set(pair) <= set(finite)]
    pairs = np.array([[finite.index(name) for name in asked[k]] for k in known], int).reshape(-1, 2)
    parts = [_over_images(arrays[asked[k][0]] - arrays[asked[k][1]]) for k in known]
    difference, image, shared = np.array(parts).reshape(-1, 3).T
    n_seeds, n_images = arrays[names[0]].shape if names else (1, 0)
    over_seeds: dict[int, dict[str, Any]] = {}
    if known and n_seeds > 1:
        means = np.stack([arrays[name].mean(axis=1) for name in finite])
        errors = standard_errors(means, pairs, image - shared, n_images)
        p = p_values(difference, errors)
        p_holm, levels = holm(p, len(asked))
        by_itself, deciding = half_width(errors, ALPHA), half_width(errors, levels)
        for i, k in enumerate(known):
            over_seeds[k] = {
                "error_over_seeds": float(errors.error_over_seeds[i]),
                "standard_error": float(errors.standard_error[i]),
                "degrees_of_freedom": float(errors.degrees_of_freedom[i]),
                "p": float(p[i]),
                "p_holm": float(p_holm[i]),
                "established": bool(p_holm[i] <= ALPHA),
                "interval": _around(difference[i], by_itself[i]),
                "deciding_interval": _around(difference[i], deciding[i]),
            }
    over_images = {k: (float(difference[i]), float(np.sqrt(image[i]))) for i, k in enumerate(known)}
    return [
        Comparison(*pair, *over_images.get(k, (None, None)), **over_seeds.get(k, {}))
        for k, pair in enumerate(asked)
    ]


def standard_errors(
    means: np.ndarray, pairs: np.ndarray, image_variance: np.ndarray, n_images: int
) -> Errors:
    """Of the differences of `pairs`, vectorised over leading dimensions.

    means: (..., n_variants, n_seeds), over images, from at least 2 of each; pairs: (n_pairs, 2),
    numbers of variants; image_variance: (..., n_pairs), of the mean difference over images, without
    what the variance over seeds counts; below 0 by chance, it counts as 0.
    """
    n_seeds = means.shape[-1]
    variances, freedom = _shrunk_variances(means)
    of_both = variances[..., pairs]
    seeds = of_both.sum(axis=-1) / n_seeds
    with np.errstate(invalid="ignore"):
        of_seeds = freedom * of_both.sum(axis=-1) ** 2 / (of_both**2).sum(axis=-1)
    of_seeds = np.where(seeds > 0, of_seeds, 2 * freedom)
    images = np.maximum(image_variance, 0.0)
    return Errors(
        np.sqrt(images + seeds),
        _degrees_of_freedom(images, n_images - 1, seeds, of_seeds),
        np.sqrt(seeds),
    )


def p_values(difference: np.ndarray, errors: Errors) -> np.ndarray:
    """Two-sided, of a difference of 0; 1 for a difference of 0 without any error."""
    size = np.abs(difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(size > 0, size / errors.standard_error, 0.0)
    return 2 * stdtr(errors.degrees_of_freedom, -t)


def half_width(errors: Errors, level: float | np.ndarray) -> np.ndarray:
    """Half the width of intervals that miss the difference with the probability `level`."""
    quantile = stdtrit(errors.degrees_of_freedom, 1 - np.asarray(level) / 2)
    return quantile * errors.standard_error


def holm(p: np.ndarray, n_asked: int) -> tuple[np.ndarray, np.ndarray]:
    """Holm's adjusted p-values, and the level at which each comparison is decided; each as p.

    p: (..., n), vectorised over leading dimensions; n_asked: comparisons asked, at least n: those
    that have no p-value count as not established.
    """
    order = np.argsort(p, axis=-1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=-1)
    steps = n_asked - np.arange(p.shape[-1])
    adjusted = np.minimum(np.maximum.accumulate(ranked * steps, axis=-1), 1.0)
    # The procedure stops at the first that is not rejected: no later one is judged more mildly.
    rejected = adjusted <= ALPHA
    at_stop = n_asked - rejected.sum(axis=-1, keepdims=True)
    levels = ALPHA / np.where(rejected, steps, np.maximum(at_stop, 1))
    back = np.argsort(order, axis=-1, kind="stable")
    return np.take_along_axis(adjusted, back, axis=-1), np.take_along_axis(levels, back, axis=-1)


def seed_variances(means: np.ndarray) -> tuple[np.ndarray, float]:
    """Over seeds, of one run of each variant, (..., n_variants), beside an effect that a seed has
    on all of them; and the degrees of freedom of each. `means`: (..., n_variants, n_seeds)."""
    n_variants, n_seeds = means.shape[-2:]
    residual = means - means.mean(axis=-1, keepdims=True)
    residual = residual - residual.mean(axis=-2, keepdims=True)
    freedom = (n_variants - 1) * (n_seeds - 1) / n_variants
    return (residual**2).sum(axis=-1) / freedom, freedom


def _shrunk_variances(means: np.ndarray) -> tuple[np.ndarray, float]:
    """`seed_variances`, shrunk towards the pooled one, with their degrees of freedom."""
    own, freedom = seed_variances(means)
    pooled = own.mean(axis=-1, keepdims=True)
    shrunk = (PRIOR_DEGREES * pooled + freedom * own) / (PRIOR_DEGREES + freedom)
    # The residuals of two variants mirror each other: their own variances are the pooled one.
    return shrunk, freedom if own.shape[-1] == 2 else freedom + EXTRA_DEGREES


def _degrees_of_freedom(
    images: np.ndarray, of_images: int, seeds: np.ndarray, of_seeds: np.ndarray
) -> np.ndarray:
    """Welch-Satterthwaite, with the limit of the seeds' variance for the seeds' variance."""
    limit = seeds * of_seeds / chdtri(of_seeds, RATIO_CONFIDENCE)
    with np.errstate(invalid="ignore"):
        found = (images + limit) ** 2 / (images**2 / of_images + limit**2 / of_seeds)
    return np.where(images + limit > 0, found, of_seeds)


def _over_images(differences: np.ndarray) -> tuple[float, float, float]:
    """Of differences (n_seeds, n_images): the mean, its variance over images, and what of that
    single images in single runs make up, which the variance over seeds counts as well."""
    n_seeds, n_images = differences.shape
    by_image, by_seed = differences.mean(axis=0), differences.mean(axis=1)
    mean = float(differences.mean())
    variance = float(by_image.var(ddof=1)) / n_images
    if n_seeds == 1:
        return mean, variance, 0.0
    residual = differences - by_image - by_seed[:, None] + mean
    square = float((residual**2).sum()) / ((n_seeds - 1) * (n_images - 1))
    return mean, variance, square / (n_seeds * n_images)


def _around(middle: float, half: float) -> tuple[float, float]:
    return float(middle - half), float(middle + half)


def _check(values: Mapping[str, np.ndarray], asked: Sequence[tuple[str, str]]) -> None:
    shapes = {name: np.shape(array) for name, array in values.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UserError(
            f"values of different numbers of seeds or images cannot be paired: {listed}; "
            f"delete the folder scores/ of these runs and run snakemake again"
        )
    for shape in shapes.values():
        if shape[1] < 2:
            raise UserError(
                f"comparisons: {shape[1]} image(s) have no standard error; score at least 2"
            )
    seen = set()
    for pair in asked:
        for name in pair:
            if name not in values:
                raise UserError(
                    f"comparisons: there is no variant {name}; choose of {', '.join(values)}"
                )
        if pair[0] == pair[1] or frozenset(pair) in seen:
            raise UserError(
                f"comparisons: {pair[0]}, {pair[1]} is a variant with itself, or asked twice; "
                f"ask for each pair of two variants once"
            )
        seen.add(frozenset(pair))
