"""The Fréchet distance between Gaussians fitted to two sets of features.

    |m - m_r|^2 + tr(C + C_r - 2 (C_r^(1/2) C C_r^(1/2))^(1/2))

with means m and covariances C of features and m_r and C_r of the reference: the square of the
2-Wasserstein distance of the two Gaussians (Dowson, Landau 1982; Heusel et al. 2017, arXiv
1706.08500, for generated images).

From n features and a reference of m it is too large by about a / n + b / m, where a and b depend on
the distributions, so that two sets may change places with n. Chong and Forsyth 2020 (arXiv
1911.07023) extrapolate: a line through distances from fewer features, over 1 / n, meets 1 / n = 0
at the distance from infinitely many. They keep the reference, and with it b / m. Here both sets are
divided into the same number of parts, so that both terms grow by this factor and vanish together;
the distance at a number of parts is the mean over the disjoint parts.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

PARTS = 1, 2, 3  # into which both sets are divided
BLOCKS = 6  # of which all these parts are made


class Moments(NamedTuple):
    """Of a set of features (n, d), in float64."""

    size: int
    total: np.ndarray
    """(d,), the sum."""
    products: np.ndarray
    """(d, d), the sum of the outer products."""

    @property
    def mean(self) -> np.ndarray:
        return self.total / self.size

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased one."""
        return (self.products - np.outer(self.total, self.mean)) / (self.size - 1)


class Reference:
    """What distances need of the reference's features (m, d), in random order, m at least 2."""

    def __init__(self, features: np.ndarray):
        self.size = len(features)
        self._blocks = list(_blocks(features))
        self._parts: dict[int, list[tuple[Moments, np.ndarray]]] = {}

    def parts(self, number: int) -> list[tuple[Moments, np.ndarray]]:
        """The moments of each part, and a matrix F with F F^T = C_r."""
        if number not in self._parts:
            self._parts[number] = [
                (part, _factor(part.covariance)) for part in _divided(self._blocks, number)
            ]
        return self._parts[number]


def distances(features: np.ndarray, reference: Reference) -> tuple[float, float | None]:
    """The distance of features (n, d), in random order, n at least 2, and its extrapolation to
    infinitely many features in both sets.

    None for the extrapolation where half of a set are no more than d: their covariance is singular
    then, and the bias no line.
    """
    n, d = features.shape
    blocks = list(_blocks(features))
    values = {}
    for number in PARTS:
        if number == 1 or min(n, reference.size) // number > d:
            pairs = zip(_divided(blocks, number), reference.parts(number), strict=True)
            values[number] = float(np.mean([_distance(part, *other) for part, other in pairs]))
    if len(values) == 1:
        return values[1], None
    return values[1], float(np.polyfit(list(values), list(values.values()), 1)[1])


def _blocks(features: np.ndarray) -> Iterator[Moments]:
    for block in np.array_split(features, BLOCKS):
        x = block.astype(np.float64)
        yield Moments(len(x), x.sum(axis=0), x.T @ x)


def _divided(blocks: list[Moments], number: int) -> Iterator[Moments]:
    """The moments of `number` parts of all blocks."""
    step = BLOCKS // number
    for start in range(0, BLOCKS, step):
        sizes, totals, products = zip(*blocks[start : start + step], strict=True)
        yield Moments(sum(sizes), np.sum(totals, axis=0), np.sum(products, axis=0))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F with F F^T = covariance: F^T C F has the eigenvalues of C_r^(1/2) C C_r^(1/2)."""
    try:
        return np.linalg.cholesky(covariance)  # takes an eighth of the time
    except np.linalg.LinAlgError:  # singular
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(np.maximum(values, 0))


def _distance(part: Moments, other: Moments, factor: np.ndarray) -> float:
    covariance = part.covariance
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(factor.T @ covariance @ factor), 0))
    difference = part.mean - other.mean
    traces = np.trace(covariance) + np.trace(other.covariance) - 2 * roots.sum()
    return float(difference @ difference + traces)
