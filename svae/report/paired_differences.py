"""Paired differences between variants, test image by test image.

The scores of two variants on the same test images share most of their uncertainty, which comes from
the choice of these images. Their difference is therefore more precise than either score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from svae.errors import UserError
from svae.report.seeds import by_variant


@dataclass(frozen=True)
class Pair:
    """How much higher the first variant scores than the second, in the unit of the scores."""

    first: str
    second: str
    difference: float
    """Mean over test images and seeds of first - second."""
    standard_error: float
    """Of this mean, over test images; their scores are first averaged over the seeds."""
    spread_over_seeds: float | None
    """Standard deviation (n - 1) over the seeds of the mean difference; None for one seed."""


def paired_difference(values: np.ndarray, base: np.ndarray) -> tuple[float, float]:
    """Return mean and standard error of values - base, (n,) each, over the same test images.

    UserError if the two have different numbers of images.
    """
    _same_images(len(values), len(base))
    difference = values - base
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def all_pairs(scores: Mapping[str, np.ndarray]) -> list[Pair]:
    """Return every pair of variants, in the order of `scores`.

    scores: variant -> (n_seeds, n_images), the score of every test image for the run of every seed;
    the seeds are the same for all variants. UserError for different numbers of images.
    """
    return [_pair(first, second, scores) for first, second in combinations(scores, 2)]


def read_scores(variants: Sequence[str], paths: Sequence[Path | str]) -> dict[str, np.ndarray]:
    """Return variant -> log-likelihood of every test image in nats, float64 (n_seeds, n_images).

    paths: files parzen_per_image.npz, in the order of svae.report.seeds.by_variant.
    UserError for different numbers of images.
    """
    scores = {}
    for variant, files in by_variant(variants, paths).items():
        seeds = [np.load(file, allow_pickle=False)["log_likelihood"] for file in files]
        for values in seeds:
            _same_images(len(values), len(seeds[0]))
        scores[variant] = np.stack(seeds)
    return scores


def _pair(first: str, second: str, scores: Mapping[str, np.ndarray]) -> Pair:
    values, base = scores[first], scores[second]
    difference, error = paired_difference(values.mean(axis=0), base.mean(axis=0))
    each = (values - base).mean(axis=1)
    return Pair(
        first, second, difference, error, float(each.std(ddof=1)) if len(each) > 1 else None
    )


def _same_images(count: int, other: int) -> None:
    if count != other:
        raise UserError(
            f"scores of {count} and of {other} test images cannot be paired; "
            f"delete results/ and run snakemake again"
        )
