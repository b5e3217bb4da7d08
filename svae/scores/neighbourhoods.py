"""Precision, recall, density and coverage of features, by nearest neighbours.

Around each feature lies a ball that reaches to its K-th nearest neighbour in its own set; the balls
of a set together stand for where its distribution has mass.

    precision   share of the features that lie in a ball of the reference
    recall      share of the reference that lies in a ball of the features
    density     balls of the reference that a feature lies in, on average, divided by K
    coverage    share of the reference whose ball has a feature in it

Precision and recall are those of Kynkäänniemi et al. 2019 (arXiv 1904.06991); density and coverage,
which outliers with large balls change less, of Naeem et al. 2020 (arXiv 2002.09797), whose K is
taken. All depend on the sizes of both sets. For two sets of one distribution and of equal size,
density is 1 in expectation, and coverage about 1 - 2^-K.
"""

import numpy as np

K = 5
BLOCK = 1000  # features that are compared with all others at once


def radii(features: np.ndarray) -> np.ndarray:
    """The squared radius of the ball around each feature: float32 (n, d) -> (n,), n above K."""
    found = np.empty(len(features), np.float32)
    features = features - features.mean(axis=0)  # smaller numbers, smaller rounding
    norms = _norms(features)
    for start in range(0, len(features), BLOCK):
        rows = slice(start, start + BLOCK)
        squares = _squares(features[rows], norms[rows], features, norms)
        own = np.arange(len(squares))
        squares[own, start + own] = np.inf
        found[rows] = np.partition(squares, K - 1, axis=1)[:, K - 1]
    return found


def measures(
    features: np.ndarray, reference: np.ndarray, reference_radii: np.ndarray
) -> dict[str, float]:
    """All four, of float32 features (n, d) and a reference (m, d), n and m above K.

    reference_radii: those of `radii`. Distances that agree in float32 count as equal, and a ball
    does not contain its surface.
    """
    own_radii = radii(features)
    centre = reference.mean(axis=0)
    features, reference = features - centre, reference - centre
    norms, reference_norms = _norms(features), _norms(reference)
    within = 0  # pairs of a feature and a ball of the reference that has it
    inside = 0  # features in any ball
    recalled = np.zeros(len(reference), bool)
    covered = np.zeros(len(reference), bool)
    for start in range(0, len(features), BLOCK):
        rows = slice(start, start + BLOCK)
        squares = _squares(features[rows], norms[rows], reference, reference_norms)
        hits = squares < reference_radii
        within += int(np.count_nonzero(hits))
        inside += int(np.count_nonzero(hits.any(axis=1)))
        covered |= hits.any(axis=0)
        recalled |= (squares < own_radii[rows, None]).any(axis=0)
    return {
        "precision": inside / len(features),
        "recall": float(recalled.mean()),
        "density": within / (K * len(features)),
        "coverage": float(covered.mean()),
    }


def _norms(features: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", features, features)


def _squares(x: np.ndarray, x_norms: np.ndarray, y: np.ndarray, y_norms: np.ndarray) -> np.ndarray:
    """Squared distances of (n, d) to (m, d): (n, m)."""
    squares = x @ y.T
    squares *= -2
    squares += x_norms[:, None]
    squares += y_norms
    return squares
