"""The Fréchet distance between Gaussians fitted to two sets of features.

    |m - m_r|^2 + tr(C + C_r - 2 (C_r^(1/2) C C_r^(1/2))^(1/2))

with means m and covariances C of features and m_r and C_r of the reference: the square of the
2-Wasserstein distance of the two Gaussians (Dowson, Landau 1982; Heusel et al. 2017, arXiv
1706.08500, for generated images).

From n features it is too large by about c / n, with a c that differs between sets, so that sets
may change places with n. Chong and Forsyth 2020 (arXiv 1911.07023) extrapolate: a line over 1 / n,
fitted to distances from fewer features, meets 1 / n = 0 at the distance from infinitely many. The
reference keeps its size, and the part of the bias that is due to it remains. Here the distances
from fewer features are means over disjoint parts of all features, which makes the line steadier
than single random parts do.
"""

import numpy as np

PARTS = 1, 2, 3  # into which the features are divided for the extrapolation
BLOCKS = 6  # of which all these parts are made


class Gaussian:
    """The reference: mean and covariance of its features (n, d), n at least 2."""

    def __init__(self, features: np.ndarray):
        self.mean, covariance = _mean_and_covariance([_sums(features)])
        values, vectors = np.linalg.eigh(covariance)
        roots = np.sqrt(np.maximum(values, 0))
        self.trace = float(np.trace(covariance))
        self.root = (vectors * roots) @ vectors.T  # C_r^(1/2)


def distances(features: np.ndarray, reference: Gaussian) -> tuple[float, float | None]:
    """The distance of features (n, d), in random order, and its extrapolation to infinite n.

    None for the extrapolation where half of the features are no more than d: their covariance is
    singular then, and the bias no line. n at least 2.
    """
    n, d = features.shape
    sums = [_sums(block) for block in np.array_split(features, BLOCKS) if len(block)]
    whole = _distance(sums, reference)
    sizes, values = [1 / n], [whole]
    for parts in PARTS[1:]:
        if n // parts > d:
            step = BLOCKS // parts
            each = [_distance(sums[i : i + step], reference) for i in range(0, BLOCKS, step)]
            sizes.append(parts / n)
            values.append(float(np.mean(each)))
    if len(sizes) == 1:
        return whole, None
    return whole, float(np.polyfit(sizes, values, 1)[1])


# The number of features, their sum (d,), and the sum of their outer products (d, d), in float64.
_Sums = tuple[int, np.ndarray, np.ndarray]


def _sums(features: np.ndarray) -> _Sums:
    x = features.astype(np.float64)
    return len(x), x.sum(axis=0), x.T @ x


def _mean_and_covariance(sums: list[_Sums]) -> tuple[np.ndarray, np.ndarray]:
    n = sum(count for count, _, _ in sums)
    mean = np.sum([total for _, total, _ in sums], axis=0) / n
    products = np.sum([outer for _, _, outer in sums], axis=0)
    return mean, (products - n * np.outer(mean, mean)) / (n - 1)


def _distance(sums: list[_Sums], reference: Gaussian) -> float:
    mean, covariance = _mean_and_covariance(sums)
    product = reference.root @ covariance @ reference.root
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(product), 0))
    difference = mean - reference.mean
    squared = difference @ difference + np.trace(covariance) + reference.trace - 2 * roots.sum()
    return float(squared)
