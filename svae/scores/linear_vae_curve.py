"""Rate and distortion of linear VAEs on given images, for every KL weight: the reference for those
of trained runs (Alemi et al. 2018, arXiv 1711.00464; Huang et al. 2020, arXiv 2008.06653).

The linear VAE with L entries at w = 2 v is the optimum that svae.scores.spectrum derives from the
training images: it uses the first components with lambda_i > v, at most L. Here it is not retrained
but applied to images, such as test images. Let p_i be the coordinate of an image along component i,
from the mean of the training images. Of the posterior N((lambda_i - v)^(1/2) p_i / lambda_i,
v / lambda_i) of a used entry:

    rate        0.5 ((lambda_i - v) p_i^2 / lambda_i^2 + v / lambda_i - 1 - log(v / lambda_i)) nats
    distortion  v^2 p_i^2 / lambda_i^2 + (lambda_i - v) v / lambda_i, in expectation over one
                posterior sample

and p_i^2 is the distortion along every other direction. Both are linear in p_i^2, so means over
images follow from means of p_i^2. If these are the lambda_i, as over the training images, they are
0.5 log(lambda_i / v) and v: reverse water-filling (Cover and Thomas 2006, section 10.3) with at
most L components.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from svae.scores.principal_components import blocks, centred
from svae.scores.spectrum import Spectrum, used_eigenvalues

LEAST = 1e-280  # of w, far above the least number


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Images as the linear VAEs with L entries see them."""

    eigenvalues: np.ndarray
    """lambda_i of the components that L entries can use, descending and above 0: float64 (k,)."""
    squares: np.ndarray
    """p_i^2 of every image: float64 (n, k)."""
    rest: np.ndarray
    """Squared distance from the mean along all other directions: float64 (n,)."""

    def first(self, latent_entries: int) -> "Coordinates":
        """For fewer entries."""
        left = self.squares[:, latent_entries:].sum(axis=1)
        kept = self.eigenvalues[:latent_entries], self.squares[:, :latent_entries]
        return Coordinates(*kept, self.rest + left)

    def mean(self) -> "LinearVaes":
        """The linear VAEs on these images, on average."""
        return LinearVaes(self.eigenvalues, self.squares.mean(axis=0), float(self.rest.mean()))

    def terms(self, w: float) -> tuple[np.ndarray, np.ndarray]:
        """Rate in nats and distortion of each image at one w, float64 (n,) each."""
        return _terms(self.eigenvalues, self.squares, self.rest, w)


@dataclass(frozen=True, eq=False)
class LinearVaes:
    """The linear VAEs with L entries, one for every w > 0, with means over images."""

    eigenvalues: np.ndarray
    """As of `Coordinates`."""
    squares: np.ndarray
    """The mean of p_i^2: float64 (k,)."""
    rest: float

    def terms(self, w: float) -> tuple[float, float]:
        """Rate in nats and distortion, means over the images."""
        rate, distortion = _terms(self.eigenvalues, self.squares, np.array(self.rest), w)
        return float(rate), float(distortion)

    def weight_at(self, rate: float) -> float:
        """The w at which the rate, at least 0, is this one; the rate falls as w rises. `LEAST`
        or less for a rate that no w above it reaches."""
        high = 2 * float(self.eigenvalues[0]) if len(self.eigenvalues) else LEAST
        if rate <= 0:
            return high
        low = high
        while self.terms(low)[0] < rate:
            if low < LEAST:
                return low
            low /= 16
        # In log w, in which it is nearly linear.
        return math.exp(
            brentq(
                lambda log_w: self.terms(math.exp(log_w))[0] - rate,
                math.log(low),
                math.log(high),
                xtol=1e-13,
            )
        )

    def distortion_at(self, rate: float) -> float:
        """The distortion at a rate in nats, at least 0."""
        return self.terms(self.weight_at(rate))[1]


def expected(spectrum: Spectrum, latent_entries: int) -> LinearVaes:
    """Over the training images that the spectrum was fitted to, in closed form. UserError if it has
    too few components for that many entries."""
    values = used_eigenvalues(spectrum, 0.0, latent_entries)
    return LinearVaes(values, values, max(0.0, spectrum.total_variance - float(values.sum())))


def coordinates(spectrum: Spectrum, images: np.ndarray, latent_entries: int) -> Coordinates:
    """Of uint8 images (n, ...). UserError as `expected`."""
    values = used_eigenvalues(spectrum, 0.0, latent_entries)
    axes = spectrum.components[: len(values)].T
    squares, rest = np.empty((len(images), len(values))), np.empty(len(images))
    for rows in blocks(images):
        x = centred(images[rows], spectrum.mean)
        squares[rows] = np.square(x @ axes, dtype=np.float64)
        whole = np.einsum("ij,ij->i", x, x, dtype=np.float64)
        rest[rows] = np.maximum(whole - squares[rows].sum(axis=1), 0)
    return Coordinates(values, squares, rest)


def _terms(
    eigenvalues: np.ndarray, squares: np.ndarray, rest: np.ndarray, w: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rate and distortion of squares (..., k) and rest (...), over the components."""
    v = w / 2
    used = int(np.sum(eigenvalues > v))
    own, along = eigenvalues[:used], squares[..., :used]
    share = v / own
    rate = 0.5 * (along @ ((1 - share) / own) + float(np.sum(share - 1 - np.log(share))))
    distortion = along @ share**2 + float(np.sum(v * (1 - share)))
    return rate, distortion + squares[..., used:].sum(axis=-1) + rest
