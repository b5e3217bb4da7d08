"""The kernel distance of two sets of features: an unbiased estimate, and its standard error.

The squared maximum mean discrepancy (Gretton et al. 2012) with the kernel k(x, y) = (x.y / d + 1)^3
of d features, as Bińkowski et al. 2018 (arXiv 1801.01401) use it for images:

    mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean of k(x_i, y_j)

Its expectation is 0 for sets of one distribution, whatever their sizes, and single estimates may be
negative. Both sets are divided into disjoint blocks; the estimate is the mean of those of the
blocks, which are independent, so that their spread gives its standard error.
"""

import math
from typing import NamedTuple

import numpy as np

BLOCKS = 10
SMALLEST = 2  # features in a block


class Estimate(NamedTuple):
    distance: float
    standard_error: float
    spread: float
    """The standard deviation of the blocks."""


def estimate(features: np.ndarray, reference: np.ndarray) -> Estimate:
    """Of features (n, d) and a reference (m, d), both in random order and at least
    BLOCKS * SMALLEST."""
    pairs = zip(np.array_split(features, BLOCKS), np.array_split(reference, BLOCKS), strict=True)
    values = [unbiased(x.astype(np.float64), y.astype(np.float64)) for x, y in pairs]
    spread = float(np.std(values, ddof=1))
    return Estimate(float(np.mean(values)), spread / math.sqrt(BLOCKS), spread)


def unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """The estimate from (n, d) and (m, d), float64."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def of_pairs(a: np.ndarray) -> float:
        values = kernel(a, a)
        return float(values.sum() - np.trace(values)) / (len(a) * (len(a) - 1))

    return of_pairs(x) + of_pairs(y) - 2 * float(kernel(x, y).mean())
