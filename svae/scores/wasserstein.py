"""The sliced Wasserstein distance between two sets of images, over a Laplacian pyramid.

Karras, Aila, Laine, Lehtinen 2018, "Progressive Growing of GANs for Improved Quality, Stability,
and Variation", arXiv 1710.10196, section 5. No trained network judges the images. Each is split
into levels of detail, from the full resolution down; of each level, 7x7 neighbourhoods of pixels at
random places form a cloud of points; and two clouds are compared by the one-dimensional Wasserstein
distances of their projections onto random directions, on average. Distances at the first level are
of fine structure, at the last of large shapes.

As in the source, the neighbourhoods of each set are normalised by the set's own mean and standard
deviation, separately for each colour channel: the distance compares structure, and is blind to a
difference in contrast between the levels of two sets. Distances are in those standard
deviations, times 1000.

A distance of finite sets is above 0 even if both are of one source. So the floor is shown next to
it: the distance of real images from other real images, as many of them. It grows as the number
falls.

Both have a standard error over images, of the samples and of the test images together. Each set is
divided at random into PARTS parts, the distance is measured for each pair of parts, and the
standard deviation of these distances is divided by the square root of their number. A smaller set
has a larger distance, but the variance of a distance is about inversely proportional to the number
of images, so that the spread over parts gives that of the whole. Places and directions are those
of the seed for all parts and runs: their choice is not part of the error.
"""

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits

from svae.errors import UserError
from svae.pixels import scale
from svae.streams import Stream, generator

Images: TypeAlias = np.ndarray | h5py.Dataset
"""(n, height, width, channel): uint8, or floats on [-1, 1]; read slice by slice."""

NEIGHBOURHOOD = 7  # side in pixels
PER_IMAGE = 128  # neighbourhoods of an image, at each level
# Of a set, so that three sets of 7x7x3 neighbourhoods take at most 230 MB: with more than 1,024
# images, each gives fewer. The error over images, which decides, hardly grows.
MOST_NEIGHBOURHOODS = 2**17
DIRECTIONS = 512
PARTS = 8  # whose distances give the standard error
SMALLEST_LEVEL = 14  # side in pixels; the source ends at 16, where 32x32 images end, too
UNIT = "standard deviations of the pixels of a level, times 1000"

# Burt and Adelson 1983, "The Laplacian Pyramid as a Compact Image Code": in each direction.
_FILTER = np.array([1, 4, 6, 4, 1], np.float32) / 16
# Of a level, in pixel units of [-1, 1]: below it there is nothing but the rounding of float32.
_LEAST_CONTRAST = 1e-5
_BLOCK = 32  # images: their pyramid fits into the cache
_SLICE = 32  # directions


def compare(
    samples: Images, test: Images, train: Images, seed: int, threads: int = 1
) -> dict[str, Any]:
    """Distance of samples from test images and, as its floor, of training images from them.

    All three sets have the same number of images. threads: projections that are sorted at
    the same time; the result does not depend on it. UserError as `distance`.
    """
    _check({"samples": samples, "test images": test, "training images": train})
    n, height, width = test.shape[:3]
    parts = _parts(n, seed)
    levels = range(len(level_sides(min(height, width))))
    each = [_distances(level, test, (samples, train), seed, threads, parts) for level in levels]
    result: dict[str, Any] = {"levels": level_sides(height)[: len(each)]}
    for place, name in enumerate(("distance", "floor")):
        found = np.array([level[place] for level in each])  # (levels, 1 + parts)
        mean = found.mean(axis=0)
        result |= {
            name: found[:, 0].tolist(),
            f"{name}_standard_error": [_standard_error(level[1:]) for level in found],
            f"{name}_mean": float(mean[0]),
            f"{name}_mean_standard_error": _standard_error(mean[1:]),
        }
    return result | {
        "n_images": n,
        "n_parts": len(parts),
        "neighbourhoods_per_image": _per_image(n),
        "directions": DIRECTIONS,
        "seed": seed,
        "unit": UNIT,
    }


def _parts(n: int, seed: int) -> np.ndarray:
    """Numbers of images, (parts, images in each): PARTS random parts of equal size, or as many as
    there are images. Up to PARTS - 1 images are in none."""
    parts = min(PARTS, n)
    order = generator(seed, Stream.WASSERSTEIN_PARTS).permutation(n)
    return order[: n // parts * parts].reshape(parts, -1)


def _standard_error(of_parts: np.ndarray) -> float | None:
    """Of the distance of the whole sets, from those of the parts (n,); None for fewer than two."""
    if len(of_parts) < 2:
        return None
    return float(of_parts.std(ddof=1) / math.sqrt(len(of_parts)))


def distance(x: Images, y: Images, seed: int, threads: int = 1) -> list[float]:
    """The distance at each level, from the full resolution down.

    Symmetric, and 0 for a set and itself: the places of neighbourhoods and the directions are
    functions of the seed, the level and the number of an image. UserError for unequal numbers or
    shapes, images with sides of less than 7 pixels, and pixels that are not finite.
    """
    _check({"the first set": x, "the second set": y})
    levels = len(level_sides(min(x.shape[1:3])))
    return [_distances(level, x, (y,), seed, threads)[0][0] for level in range(levels)]


def _distances(
    level: int,
    reference: Images,
    others: tuple[Images, ...],
    seed: int,
    threads: int,
    parts: Iterable[np.ndarray] = (),
) -> list[list[float]]:
    """For each of the others its distance from the reference at one level, and after it that of
    each part, of which `parts` has the numbers of the images."""
    n = reference.shape[0]
    points = _points(reference, level, seed)
    rng = generator(seed, Stream.WASSERSTEIN_DIRECTIONS, level)
    axes = directions(points.shape[1], DIRECTIONS, rng)
    clouds = [points, *(_points(images, level, seed) for images in others)]

    def of_part(cloud: np.ndarray, images: np.ndarray) -> np.ndarray:
        shape = (n, -1, reference.shape[3], NEIGHBOURHOOD, NEIGHBOURHOOD)
        return normalised(cloud.reshape(shape)[images]).reshape(-1, cloud.shape[1])

    found = [sliced_wasserstein(*clouds, directions=axes, threads=threads)]
    for part in parts:
        of_parts = [of_part(cloud, part) for cloud in clouds]
        found.append(sliced_wasserstein(*of_parts, directions=axes, threads=threads))
    return (1000.0 * np.array(found).T).tolist()


def level_sides(side: int) -> list[int]:
    """Sides of the pyramid's levels: `side`, halved as long as 14 pixels are left."""
    sides = [side]
    while -(-sides[-1] // 2) >= SMALLEST_LEVEL:
        sides.append(-(-sides[-1] // 2))
    return sides


def pyramid(images: np.ndarray) -> list[np.ndarray]:
    """float32 (n, height, width, channel) -> the Laplacian pyramid's levels, (n, h, w, channel).

    Each level is what its image loses by being halved, image - up(down(image)); the last one is the
    image that is left. Adding `up` of each level to the one before restores the images.
    """
    levels = []
    for _ in level_sides(min(images.shape[1:3]))[1:]:
        smaller = down(images)
        levels.append(images - up(smaller, images.shape[1:3]))
        images = smaller
    return [*levels, images]


def down(images: np.ndarray) -> np.ndarray:
    """Smoothed, and every second pixel of that: (n, h, w, c) -> (n, ceil(h/2), ceil(w/2), c)."""
    for axis in (1, 2):
        images = _smoothed(images, axis, step=2)
    return images


def up(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Zeros put between the pixels, up to `shape`, and smoothed with 4 times the filter."""
    for axis, size in zip((1, 2), shape, strict=True):
        spread = np.zeros((*images.shape[:axis], size, *images.shape[axis + 1 :]), images.dtype)
        spread[(slice(None),) * axis + (slice(None, None, 2),)] = images
        images = 2 * _smoothed(spread, axis, step=1)
    return images


def _smoothed(images: np.ndarray, axis: int, step: int) -> np.ndarray:
    """The filter along an axis, with a mirror at its ends, at every `step`-th pixel."""
    size = images.shape[axis]
    padding = [(0, 0)] * images.ndim
    padding[axis] = (2, 2)
    padded = np.pad(images, padding, mode="reflect")
    before = (slice(None),) * axis
    parts = (w * padded[(*before, slice(k, k + size, step))] for k, w in enumerate(_FILTER))
    return sum(parts)


def _per_image(n: int) -> int:
    """Neighbourhoods of each of n images."""
    return min(PER_IMAGE, max(1, MOST_NEIGHBOURHOODS // n))


def _points(images: Images, level: int, seed: int) -> np.ndarray:
    """The normalised neighbourhoods of one level of all images, float32 (n * per image, p)."""
    n, height, width, channels = images.shape
    for _ in range(level):
        height, width = -(-height // 2), -(-width // 2)
    count = _per_image(n)
    side = NEIGHBOURHOOD
    rng = generator(seed, Stream.WASSERSTEIN_PLACES, level)
    tops = rng.integers(0, height - side + 1, (n, count))
    lefts = rng.integers(0, width - side + 1, (n, count))
    cloud = np.empty((n, count, channels, side, side), np.float32)
    for start in range(0, n, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n))
        details = pyramid(_pixels(images[rows], start))[level]
        cloud[rows] = neighbourhoods(details, tops[rows], lefts[rows])
    return normalised(cloud).reshape(n * count, -1)


def neighbourhoods(images: np.ndarray, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
    """The 7x7 pixels at each place: images (n, h, w, c), places (n, m) -> (n, m, c, 7, 7)."""
    windows = sliding_window_view(images, (NEIGHBOURHOOD, NEIGHBOURHOOD), axis=(1, 2))
    return windows[np.arange(len(images))[:, None], tops, lefts]


def normalised(cloud: np.ndarray) -> np.ndarray:
    """(n, m, channel, 7, 7), each channel made of mean 0 and standard deviation 1, in place.

    A channel without contrast, such as a level of blank images, is left at 0 throughout: its
    standard deviation is not made 1.
    """
    for channel in range(cloud.shape[2]):
        values = cloud[:, :, channel]
        values -= values.mean(dtype=np.float64).astype(np.float32)
        deviation = math.sqrt(np.square(values).mean(dtype=np.float64))
        if deviation > _LEAST_CONTRAST:
            values /= np.float32(deviation)
    return cloud


def directions(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors, uniform on the sphere: float32 (size, count)."""
    vectors = rng.standard_normal((size, count))
    return (vectors / np.linalg.norm(vectors, axis=0)).astype(np.float32)


def sliced_wasserstein(
    reference: np.ndarray, *others: np.ndarray, directions: np.ndarray, threads: int = 1
) -> list[float]:
    """Mean over the directions of the first Wasserstein distance of the projections, of each of the
    others from the reference.

    reference, others: (n, p), as many points of each; directions: (p, count), unit columns. In one
    dimension the distance of n points from n others is the mean of |a_i - b_i| in sorted order.
    """
    for other in others:
        if other.shape != reference.shape:
            raise UserError(
                f"the sliced Wasserstein distance: one set has the shape {reference.shape}, the "
                f"other {other.shape}; take the same number of each"
            )

    def sums_over(first: int) -> list[float]:
        axes = np.ascontiguousarray(directions[:, first : first + _SLICE].T)

        def projected(points: np.ndarray) -> np.ndarray:
            values = axes @ points.T
            values.sort(axis=1)
            return values

        sums, base = [], projected(reference)
        for other in others:
            difference = projected(other)
            difference -= base
            np.abs(difference, out=difference)
            sums.append(float(difference.mean(axis=1, dtype=np.float64).sum()))
        return sums

    count = directions.shape[1]
    # One thread computes each slice, so that no digit depends on the number of threads.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        sums = list(pool.map(sums_over, range(0, count, _SLICE)))
    return [sum(each) / count for each in zip(*sums, strict=True)]


def _pixels(images: np.ndarray, first: int) -> np.ndarray:
    """float32 on [-1, 1], all finite."""
    x = scale(images) if images.dtype == np.uint8 else np.asarray(images, np.float32)
    finite = np.isfinite(x).all(axis=(1, 2, 3))
    if not finite.all():
        raise UserError(
            f"the sliced Wasserstein distance: image {first + int(np.argmin(finite))} of a set has "
            f"pixels that are NaN or infinite; the training may have diverged, or the file is "
            f"damaged: make it again"
        )
    return x


def _check(sets: dict[str, Images]) -> None:
    shapes = {name: images.shape for name, images in sets.items()}
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if len(set(shapes.values())) > 1:
        raise UserError(
            f"the sliced Wasserstein distance needs sets of one shape and of equal numbers of "
            f"images, but these are {listed}; take the same number of each"
        )
    shape = next(iter(shapes.values()))
    if shape[0] < 1 or min(shape[1:3]) < NEIGHBOURHOOD:
        raise UserError(
            f"the sliced Wasserstein distance needs images with sides of at least {NEIGHBOURHOOD} "
            f"pixels, but these are {listed}; leave it out for this data set"
        )
