"""Parzen-window log-likelihood: how probable real images are under a kernel density of samples.

The samples s_1 .. s_m of a model become the density

    p(x) = 1/m sum_j N(x; s_j, sigma^2 I),

whose logarithm is averaged over test images (Breuleux, Bengio, Vincent 2011; Goodfellow et al.
2014, `parzen_ll.py`). In high dimension it is a poor proxy of quality (Theis, van den Oord, Bethge
2016).

Pixels are on [-1, 1] throughout, x = u / 127.5 - 1 for a byte u, and log-likelihoods are in nats
per image: those of [0, 1] pixels are larger by D ln 2, at half the sigma.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from svae.errors import UserError

PIXEL_RANGE = (-1.0, 1.0)
PROTOCOLS = ("disjoint", "paper")

# exp below this is denormal or zero, and several times slower, whereas the largest term is exp(0).
_SMALLEST_EXPONENT = -700.0


@dataclass(frozen=True, eq=False)
class ParzenResult:
    """One score. Log-likelihoods are in nats per image, for pixels on [-1, 1]."""

    protocol: str
    log_likelihood: float
    """Mean over the test images."""
    standard_error: float
    """Of that mean, over test images alone: the spread of new samples or seeds is not in it."""
    bits_per_dim: float
    """See `bits_per_dim`."""
    sigma: float
    """Standard deviation of the kernel, in pixel units of [-1, 1]."""
    sigma_grid: tuple[float, ...]
    validation_log_likelihood: tuple[float, ...]
    """The mean by which sigma was chosen, one per sigma (for `paper`, each on other images)."""
    sigma_at_grid_edge: bool
    """True where the grid does not enclose its best sigma; always so for a grid of one."""
    n_samples: int
    n_valid: int
    n_test: int
    dimension: int
    per_image: np.ndarray
    """float64 (n_test,): log-likelihood of each test image."""


def sigma_grid(
    low_exponent: float = -1.0, high_exponent: float = 0.0, count: int = 10
) -> np.ndarray:
    """Kernel widths 10^low_exponent .. 10^high_exponent, equally spaced in logarithm, (count,)."""
    return np.logspace(low_exponent, high_exponent, count)


def bits_per_dim(log_likelihood: float, dimension: int) -> float:
    """Bits per dimension, on the scale of byte values, of a density of pixels on [-1, 1].

    -LL / (D ln 2) + log2(127.5), for LL in nats per image. Not comparable with the likelihood of a
    discrete distribution over bytes.
    """
    return -log_likelihood / (dimension * math.log(2)) + math.log2(127.5)


def choose_sigma(
    validation_log_likelihood: Sequence[float] | np.ndarray, sigmas: Sequence[float] | np.ndarray
) -> tuple[float, bool]:
    """The sigma of the largest mean, and whether it lies at an edge of the grid.

    At an edge the best width may lie outside the grid; a grid of one sigma is all edge.
    """
    sigma = float(sigmas[int(np.argmax(validation_log_likelihood))])
    return sigma, not min(sigmas) < sigma < max(sigmas)


def log_likelihoods(
    images: np.ndarray,
    samples: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    block: int = 1000,
    threads: int = 1,
) -> np.ndarray:
    """log 1/m sum_j N(x_i; s_j, sigma_k^2 I) for every sigma, from one pass over the distances.

    images: float (n, ...), flattened to D values each; samples: float (m, ...) of the same trailing
    shape. Both may be anything that has `shape` and `dtype` and can be sliced `[a:b]`, such as an
    h5py dataset; at most `block` rows of each are held at a time (as float64, beside two
    block x block matrices). Samples are read once, images once per block of samples.
    sigmas: (n_sigmas,), in pixel units.
    threads: of the matrix product; one number gives the same result whatever the number of cores.

    Returns float64 (n_sigmas, n), in nats per image. Raises UserError for no rows, integer pixels,
    unequal shapes, values that are not finite, and sigmas that are not positive.
    """
    sigmas = np.asarray(sigmas, dtype=np.float64)
    if sigmas.ndim != 1 or not sigmas.size or not (np.isfinite(sigmas) & (sigmas > 0)).all():
        raise UserError(f"parzen: sigmas must be one or more positive numbers, not {sigmas}")
    _check_pixels(images, "images")
    _check_pixels(samples, "samples")
    if images.shape[1:] != samples.shape[1:]:
        raise UserError(
            f"samples: each has the shape {samples.shape[1:]}, but the images they are scored on "
            f"have {images.shape[1:]}; draw samples from a model of this data set"
        )
    n, m = images.shape[0], samples.shape[0]
    dimension = math.prod(images.shape[1:])
    rates = 0.5 / sigmas**2

    # Per image: the smallest squared distance so far, and for each sigma the sum over the samples
    # so far of exp(-rate (d^2 - nearest)), which is at least 1.
    nearest = np.full(n, np.inf)
    totals = np.zeros((sigmas.size, n))
    # Distances do not change with a common centre, but their rounding grows with |x|^2 and |s|^2.
    centre = np.zeros(dimension)
    centre = _rows(images, 0, 1, centre, "images")[0]
    with threadpool_limits(limits=threads, user_api="blas"):
        for a in range(0, m, block):
            s = _rows(samples, a, a + block, centre, "samples")
            for b in range(0, n, block):
                x = _rows(images, b, b + block, centre, "images")
                _accumulate(
                    _squared_distances(x, s),
                    rates,
                    nearest[b : b + block],
                    totals[:, b : b + block],
                )
    log_kernels = np.log(totals) - rates[:, None] * nearest
    log_norm = math.log(m) + 0.5 * dimension * np.log(2 * np.pi * sigmas**2)
    return log_kernels - log_norm[:, None]


def score(
    samples: np.ndarray,
    valid: np.ndarray,
    test: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    protocol: str,
    n_valid: int,
    n_test: int,
    threads: int = 1,
) -> ParzenResult:
    """Choose sigma from the grid, then score the first `n_test` test images.

    samples, valid, test: float (count, ...), pixels on [-1, 1], as `log_likelihoods` takes them.
    protocol:
        `disjoint`  sigma is the best on the first `n_valid` validation images;
        `paper`     what the code published with arXiv 1705.06821 does, for comparison only: its
                    reader is never reset, so that the k-th sigma is judged on the k-th block of
                    `n_valid` *test* images, which are then scored as well. `valid` is not read.

    Raises UserError for an unknown protocol, for fewer images than asked, and as `log_likelihoods`.
    """
    sigmas = np.asarray(sigmas, dtype=np.float64)
    if n_valid < 1:
        raise UserError(f"parzen.n_valid: is {n_valid}, but must be at least 1")
    if n_test < 2:
        raise UserError(f"parzen.n_test: is {n_test}, but a standard error needs at least 2")
    _check_count(test, n_test, "test", "parzen.n_test")
    if protocol == "disjoint":
        _check_count(valid, n_valid, "valid", "parzen.n_valid")
        validation = log_likelihoods(valid[:n_valid], samples, sigmas, threads=threads).mean(axis=1)
    elif protocol == "paper":
        _check_count(test, n_valid, "test", "parzen.n_valid", blocks=sigmas.size)
        validation = [
            log_likelihoods(
                test[k * n_valid : (k + 1) * n_valid], samples, [sigma], threads=threads
            ).mean()
            for k, sigma in enumerate(sigmas)
        ]
    else:
        raise UserError(f"parzen.protocol: {protocol!r} is unknown; use {' or '.join(PROTOCOLS)}")

    sigma, at_edge = choose_sigma(validation, sigmas)
    per_image = log_likelihoods(test[:n_test], samples, [sigma], threads=threads)[0]
    mean = float(per_image.mean())
    dimension = math.prod(test.shape[1:])
    return ParzenResult(
        protocol=protocol,
        log_likelihood=mean,
        standard_error=float(per_image.std(ddof=1) / math.sqrt(n_test)),
        bits_per_dim=bits_per_dim(mean, dimension),
        sigma=sigma,
        sigma_grid=tuple(sigmas.tolist()),
        validation_log_likelihood=tuple(float(value) for value in validation),
        sigma_at_grid_edge=at_edge,
        n_samples=samples.shape[0],
        n_valid=n_valid,
        n_test=n_test,
        dimension=dimension,
        per_image=per_image,
    )


def _rows(array: np.ndarray, start: int, stop: int, centre: np.ndarray, name: str) -> np.ndarray:
    """Rows start .. stop, flattened, minus the centre: float64 (rows, D)."""
    rows = np.asarray(array[start:stop]).reshape(-1, centre.size)
    if not np.isfinite(rows).all():
        first = start + int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise UserError(
            f"{name}: number {first} has pixels that are NaN or infinite; "
            f"the training may have diverged, or the file is damaged: make it again"
        )
    return np.subtract(rows, centre, dtype=np.float64)


def _squared_distances(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """|x_i - s_j|^2 for x (n, D) and s (m, D): (n, m), by one matrix product.

    In float64: at sigma = 0.1, float32 products err by tenths of a nat for near duplicates.
    """
    d2 = x @ s.T
    d2 *= -2.0
    d2 += np.einsum("ij,ij->i", x, x)[:, None]
    d2 += np.einsum("ij,ij->i", s, s)
    return np.maximum(d2, 0.0, out=d2)


def _accumulate(d2: np.ndarray, rates: np.ndarray, nearest: np.ndarray, totals: np.ndarray) -> None:
    """Add a block of samples to a streaming log-sum-exp, in place.

    d2: (n, m) squared distances, overwritten; rates: (n_sigmas,); nearest: (n,); totals:
    (n_sigmas, n). One shift, the smallest distance, serves all sigmas.
    """
    lowest = np.minimum(nearest, d2.min(axis=1))
    d2 -= lowest[:, None]
    terms = np.empty_like(d2)
    for rate, total in zip(rates, totals, strict=True):
        np.multiply(d2, -rate, out=terms)
        np.maximum(terms, _SMALLEST_EXPONENT, out=terms)
        np.exp(terms, out=terms)
        total *= np.exp(rate * (lowest - nearest))
        total += terms.sum(axis=1)
    nearest[:] = lowest


def _check_pixels(array: np.ndarray, name: str) -> None:
    if not array.shape[0]:
        raise UserError(f"{name}: there are none to score with; at least one is needed")
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"{name}: pixels of type {array.dtype}; pass floats on [-1, 1] (bytes / 127.5 - 1)"
        )


def _check_count(images: np.ndarray, count: int, split: str, key: str, blocks: int = 1) -> None:
    available = images.shape[0]
    if available < blocks * count:
        asked = f"{count} images" if blocks == 1 else f"{blocks} blocks of {count} images"
        raise UserError(
            f"{key}: asks for {asked} of the split `{split}`, which has {available}; "
            f"lower {key} to at most {available // blocks}, or use a larger split"
        )
