"""Whether samples are copies of training images.

The share of samples that lie closer to a training image than to any held-out image, which the
training has not seen. For samples that owe nothing to single training images it is, up to chance,
the proportion of training images among all references: n_train / (n_train + n_held_out), the null
share. If all samples were copies, it would be 1.

The distance to the nearest training image is no measure of copying: it confuses blur with copying.
Blurred test images are nearer to the training set than the test images are, since blur takes away
the detail in which images differ; but they are nearer to the held-out images by as much, so that
their share stays where it was. The share of real test images is the control: it is the null share,
up to chance, if all splits have the same distribution. Where they do not, as with splits by person
or place, the samples' share is to be compared with it.

Standard errors count references, not samples. Under the null hypothesis it is chance which of the
references are training images, and every sample whose nearest reference is r moves with r. With n_r
such samples of n, and p the null share, the share has the standard error

    sqrt(p (1 - p) sum_r n_r^2) / n

In many dimensions a few references, the hubs, are nearest to a large part of the samples
(Radovanovic, Nanopoulos, Ivanovic 2010, Journal of Machine Learning Research 11, 2487), and the
binomial standard error, for which n_r is 0 or 1, is several times too small. References are drawn
without replacement, so that the variance is in truth p (1 - p) (sum_r n_r^2 - n^2 / N) / n^2 with N
references in all: the formula above errs on the wide side, by little where there are hubs.

Distances are Euclidean, of pixels on [-1, 1].
"""

import math
from typing import Any

import numpy as np

from svae.errors import UserError
from svae.sampling.nearest import Images, nearest
from svae.streams import Stream, generator

Z_TELLS = 3.0  # standard errors above the null share that are evidence of copies


def shares(
    samples: Images, test: Images, train: Images, held_out: Images, seed: int, threads: int = 1
) -> dict[str, Any]:
    """The share of samples, and of test images, that lie closer to training than held-out images.

    All training images are compared, in blocks; what is held in memory does not grow with their
    number. A random half of `test`, chosen by `seed`, joins `held_out`: few held-out images would
    put the null share near 1, where some copies among the samples could hardly be detected. The
    other half is the control. An image that is equally close to both sets, such as one that is in
    both, counts as the null share: it is evidence for neither.

    Returns, for JSON: `share_of_samples`, `share_of_test_images` and their `..._standard_error`
    under the null hypothesis; `share_if_null`, `share_if_all_were_copies`; `z` of the samples and
    `z_of_test_images`, the distance from the null share in standard errors (None where these are
    0); `cannot_tell`, whether z would not be above 3 even if all samples were copies; and the
    numbers of images. UserError as `nearest`, and for fewer than 2 test images.
    """
    if test.shape[0] < 2:
        raise UserError(
            f"memorisation: {test.shape[0]} test image(s) cannot be halved; give at least 2"
        )
    order = generator(seed, Stream.MEMORISATION_HELD_OUT).permutation(test.shape[0])
    middle = test.shape[0] // 2
    also_held_out, control = (
        _taken(test, part) for part in (np.sort(order[:middle]), np.sort(order[middle:]))
    )
    n_train, n_held_out = train.shape[0], held_out.shape[0] + middle
    null = n_train / (n_train + n_held_out)
    result: dict[str, Any] = {}
    for name, images in (("samples", samples), ("test_images", control)):
        trained = nearest(images, train, threads)
        others = (nearest(images, each, threads) for each in (held_out, also_held_out))
        # `others` are two, which its type does not say.
        found = share(*trained, *_nearer(*others, held_out.shape[0]), null)  # type: ignore[call-arg, arg-type]
        result[f"share_of_{name}"], result[f"share_of_{name}_standard_error"] = found
        result["z" if name == "samples" else f"z_of_{name}"] = _z(found[0], null, found[1])
    could_be = _z(1.0, null, result["share_of_samples_standard_error"])
    return result | {
        "share_if_null": null,
        "share_if_all_were_copies": 1.0,
        "cannot_tell": could_be is None or could_be <= Z_TELLS,
        "n_samples": samples.shape[0],
        "n_test": control.shape[0],
        "n_train": n_train,
        "n_held_out": n_held_out,
        "seed": seed,
    }


def share(
    train_number: np.ndarray,
    to_train: np.ndarray,
    held_out_number: np.ndarray,
    to_held_out: np.ndarray,
    null: float,
) -> tuple[float, float]:
    """The share of n images that are nearer to a training image, and its standard error by
    references.

    For each image, the number of the nearest training image and its distance, then the same for
    the held-out images, each (n,); null: the share to expect by chance.
    """
    equal = to_train == to_held_out
    value = np.mean((to_train < to_held_out) + null * equal)
    trained = to_train <= to_held_out
    squares = sum(
        np.sum(np.unique(numbers, return_counts=True)[1].astype(np.float64) ** 2)
        for numbers in (train_number[trained], held_out_number[~trained])
    )
    return float(value), math.sqrt(null * (1.0 - null) * squares) / len(to_train)


def _nearer(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], n_first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of two sets' nearest references, as `nearest` gives them, the nearer one: the second set is
    numbered after the n_first references of the first."""
    closer = first[1] <= second[1]
    return np.where(closer, first[0], n_first + second[0]), np.minimum(first[1], second[1])


def _z(value: float, null: float, error: float) -> float | None:
    return (value - null) / error if error else None


def _taken(images: Images, rows: np.ndarray) -> np.ndarray:
    # One by one: h5py is slow to select many rows at once.
    return np.stack([images[row] for row in rows.tolist()])
