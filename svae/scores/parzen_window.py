"""Parzen-window log-likelihood: how probable real images are under a kernel density of samples.

The samples s_1 .. s_m of a model become the density

    p(x) = 1/m sum_j N(x; s_j, sigma^2 I),

whose logarithm is averaged over test images (Breuleux, Bengio, Vincent 2011; Goodfellow et al.
2014, `parzen_ll.py`). In high dimension it is a poor proxy of quality (Theis, van den Oord, Bethge
2016). `kernel_density` computes it; this is the protocol around it.

Pixels are on [-1, 1] throughout, x = u / 127.5 - 1 for a byte u, and log-likelihoods are in nats
per image: those of [0, 1] pixels are larger by D ln 2, at half the sigma.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from svae.errors import UserError
from svae.pixels import bits_per_dim
from svae.scores.kernel_density import log_likelihoods

PROTOCOLS = ("disjoint", "paper")

# Widths that `refine_sigma` tries between the neighbours of the grid's best, 2.6 % apart for the
# usual grid. All are tried in one pass over the distances, in which further widths cost next to
# nothing. An odd number, so that the grid's best is among them.
REFINE_COUNT = 21


@dataclass(frozen=True, eq=False)
class ParzenResult:
    """One score. Log-likelihoods are in nats per image, for pixels on [-1, 1]."""

    protocol: str
    log_likelihood: float
    """Mean over the test images."""
    standard_error: float
    """Of that mean, over test images only: without the spread of other samples or seeds."""
    bits_per_dim: float
    """See svae.pixels."""
    sigma: float
    """Standard deviation of the kernel, in pixel units of [-1, 1]."""
    refined: bool
    """True where sigma was searched for between the widths of the grid."""
    grid_sigma: float
    """The best of the grid; `sigma` itself unless refined."""
    grid_log_likelihood: float
    """The mean over the same test images at `grid_sigma`: the score by the field's protocol."""
    grid_standard_error: float
    """Of that mean, as `standard_error`."""
    sigma_grid: tuple[float, ...]
    validation_log_likelihood: tuple[float, ...]
    """The mean by which the grid's was chosen, one per sigma (`paper`: each on other images)."""
    validation_log_likelihood_at_sigma: float
    """The mean at `sigma`; refined: that of the parabola at its vertex."""
    sigma_at_grid_edge: bool
    """True where `sigma` is the smallest or largest of the grid, so that a sigma outside of it may
    be better; always so for a grid of one."""
    n_samples: int
    n_valid: int
    n_test: int
    dimension: int
    per_image: np.ndarray
    """float64 (n_test,): log-likelihood of each test image."""
    grid_per_image: np.ndarray
    """float64 (n_test,): that at `grid_sigma`."""


def sigma_grid(
    low_exponent: float = -1.0, high_exponent: float = 0.0, count: int = 10
) -> np.ndarray:
    """Kernel widths 10^low_exponent .. 10^high_exponent, equally spaced in logarithm, (count,)."""
    return np.logspace(low_exponent, high_exponent, count)


def choose_sigma(
    validation_log_likelihood: Sequence[float] | np.ndarray, sigmas: Sequence[float] | np.ndarray
) -> float:
    """The sigma of the largest mean."""
    return float(sigmas[int(np.argmax(validation_log_likelihood))])


def at_edge(sigma: float, sigmas: Sequence[float] | np.ndarray) -> bool:
    """Whether the best sigma may lie outside the grid; a grid of one sigma is all edge."""
    return not min(sigmas) < sigma < max(sigmas)


def refine_sigma(
    means: Callable[[np.ndarray], np.ndarray],
    sigmas: Sequence[float] | np.ndarray,
    validation_log_likelihood: Sequence[float] | np.ndarray,
) -> tuple[float, float]:
    """The best sigma between the neighbours, in the grid, of the grid's best, and its mean.

    means: gives the mean log-likelihood for each of several sigmas, (count,) -> (count,); called
    at most once. sigmas, validation_log_likelihood: the grid and its means.

    Against ln sigma, the mean of D-dimensional images is nearly a parabola of curvature -2 D. So
    the result is the vertex of the parabola through the best of the widths tried and its
    neighbours. At an edge of the grid the search stays inside.
    """
    best = choose_sigma(validation_log_likelihood, sigmas)
    of_best = float(np.max(validation_log_likelihood))
    tried = np.unique(sigmas)
    middle = int(np.searchsorted(tried, best))
    low, high = tried[max(middle - 1, 0)], tried[min(middle + 1, len(tried) - 1)]
    if low == high:
        return best, of_best
    tried = np.geomspace(low, high, REFINE_COUNT)
    found = means(tried)
    middle = int(np.argmax(found))
    if not 0 < middle < REFINE_COUNT - 1:
        return float(tried[middle]), float(found[middle])
    before, highest, after = found[middle - 1 : middle + 2]
    bend = before - 2 * highest + after
    if not bend < 0:  # three equal means, or some that are not finite
        return float(tried[middle]), float(highest)
    # In steps; at most half a step, since `highest` is the largest of the three.
    offset = 0.5 * (before - after) / bend
    step = math.log(high / low) / (REFINE_COUNT - 1)
    return float(tried[middle] * math.exp(step * offset)), float(highest - 0.5 * bend * offset**2)


def score(
    samples: np.ndarray,
    valid: np.ndarray,
    test: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    protocol: str,
    n_valid: int,
    n_test: int,
    refine: bool = False,
) -> ParzenResult:
    """Choose sigma on validation images, then score the first `n_test` test images.

    samples, valid, test: (count, ...), as `log_likelihoods` takes them: samples are floats, images
    floats or bytes.
    protocol:
        `disjoint`  sigma is the best of the grid on the first `n_valid` validation images;
        `paper`     what the code published with arXiv 1705.06821 does, for comparison only: its
                    reader is never reset, so that the k-th sigma is judged on the k-th block of
                    `n_valid` *test* images, which are then scored as well. `valid` is not read.
    refine: then search between the widths of the grid (`refine_sigma`), on the same validation
        images; protocol `disjoint` only.

    Raises UserError for an unknown protocol, for `paper` with refine, for fewer images than asked,
    and as `log_likelihoods`.
    """
    sigmas = np.asarray(sigmas, dtype=np.float64)
    if n_valid < 1:
        raise UserError(f"parzen.n_valid: is {n_valid}, but must be at least 1")
    if n_test < 2:
        raise UserError(f"parzen.n_test: is {n_test}, but a standard error needs at least 2")
    _check_count(test, n_test, "test", "parzen.n_test")
    validation: Any  # float64 (sigmas,), or a list of as many
    if protocol == "disjoint":
        _check_count(valid, n_valid, "valid", "parzen.n_valid")
        chosen_on = valid[:n_valid]

        def means(sigmas: np.ndarray) -> np.ndarray:
            return log_likelihoods(chosen_on, samples, sigmas).mean(axis=1)

        validation = means(sigmas)
    elif protocol == "paper":
        if refine:
            raise UserError(
                "parzen.refine: needs validation images, which protocol paper does not have; "
                "set parzen.refine: auto, or parzen.protocol: disjoint"
            )
        _check_count(test, n_valid, "test", "parzen.n_valid", blocks=sigmas.size)
        validation = [
            log_likelihoods(test[k * n_valid : (k + 1) * n_valid], samples, [sigma]).mean()
            for k, sigma in enumerate(sigmas)
        ]
    else:
        raise UserError(f"parzen.protocol: {protocol!r} is unknown; use {' or '.join(PROTOCOLS)}")

    grid_sigma = choose_sigma(validation, sigmas)
    sigma, at_sigma = grid_sigma, float(np.max(validation))
    if refine:
        sigma, at_sigma = refine_sigma(means, sigmas, validation)
    # Both in one pass over the distances.
    both = [sigma, grid_sigma] if refine else [sigma]
    found = log_likelihoods(test[:n_test], samples, both)
    per_image, grid_per_image = found[0], found[-1]
    mean = float(per_image.mean())
    dimension = math.prod(test.shape[1:])
    return ParzenResult(
        protocol=protocol,
        log_likelihood=mean,
        standard_error=_standard_error(per_image),
        bits_per_dim=bits_per_dim(mean, dimension),
        sigma=sigma,
        refined=refine,
        grid_sigma=grid_sigma,
        grid_log_likelihood=float(grid_per_image.mean()),
        grid_standard_error=_standard_error(grid_per_image),
        sigma_grid=tuple(sigmas.tolist()),
        validation_log_likelihood=tuple(float(value) for value in validation),
        validation_log_likelihood_at_sigma=at_sigma,
        sigma_at_grid_edge=at_edge(sigma, sigmas),
        n_samples=samples.shape[0],
        n_valid=n_valid,
        n_test=n_test,
        dimension=dimension,
        per_image=per_image,
        grid_per_image=grid_per_image,
    )


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _check_count(images: np.ndarray, count: int, split: str, key: str, blocks: int = 1) -> None:
    available = images.shape[0]
    if available < blocks * count:
        asked = f"{count} images" if blocks == 1 else f"{blocks} blocks of {count} images"
        raise UserError(
            f"{key}: asks for {asked} of the split `{split}`, which has {available}; "
            f"lower {key} to at most {available // blocks}, or use a larger split"
        )
