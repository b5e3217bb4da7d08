"""Every stream of random numbers, by name.

Each use of random numbers has a member of `Stream`, and no two members share a generator: what one
use takes moves no number of another. A stream is a function of its member, a seed and further
indices, such as an image's number. NumPy's generators come from `generator`, TensorFlow's keys from
svae.model.keyed_random.key.

Two kinds of random numbers have a seed of their own: the initial weights, which Keras draws
(svae.model.vae), and the order of the images before a data set is split (svae.datasets.splits),
which no seed of a user moves.

Imports nothing but the standard library: NumPy is loaded when a generator is made.
"""

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@enum.unique
class Stream(enum.IntEnum):
    """The uses of random numbers; in brackets what each is indexed by, besides a seed.

    The numbers decide results. Never change one, and never use one again; a new member takes the
    next number.
    """

    # Keys of svae.model.keyed_random.
    TRAINING_LATENTS = 0
    """Noise of the posterior samples of a training step [step]."""
    DROPOUT = 1
    """[step]"""
    EVALUATION_LATENTS = 2
    """Noise of the posterior samples outside of training steps [batch]."""
    SATURATION_LATENTS = 3
    """Prior samples of which saturated pixels are counted [batch]."""

    # Training.
    EPOCH_ORDER = 4
    """Order of the training images, or of the runs that a large split is cut into [epoch]. This and
    the next keep the generators that they had before streams had names, so that trainings do."""
    WINDOW_ORDER = 5
    """Order of the images in a window of a large split [epoch, window]."""

    # Sampling.
    PRIOR_LATENTS = 6
    """Latents of the samples of a run."""
    FRESH_PRIOR_LATENTS = 7
    """Latents of further sets of samples [number of the set]."""
    MEANS_STATISTICS = 8
    """Training images for the batch-norm statistics of posterior means."""

    # Scores of a run.
    BOUND_PIXELS = 9
    """Noise that dequantises an image of the importance-weighted bound [image]."""
    BOUND_LATENTS = 10
    """Noise of the posterior samples of the bound [image]."""
    WASSERSTEIN_TEST = 11
    """Test images of the sliced Wasserstein distance."""
    WASSERSTEIN_TRAIN = 12
    """Training images of its floor."""
    WASSERSTEIN_PLACES = 13
    """Places of the neighbourhoods [level]."""
    WASSERSTEIN_DIRECTIONS = 14
    """Directions of the projections [level]."""
    MEMORISATION_HELD_OUT = 16
    """Test images that count as held out; the others are the control."""

    # Scores of a data set, and the linear VAE.
    FITTED_IMAGES = 17
    """Training images that principal components, centroids and Gaussian are fitted to."""
    PRINCIPAL_COMPONENTS = 18
    """The randomised method for principal components."""
    LINEAR_VAE_LATENTS = 19
    """Latents of the samples of the linear VAE."""
    SANITY_IMAGES = 20
    """Training images that stand for samples."""
    CENTROIDS = 21
    """k-means."""
    GAUSSIAN = 22
    """Samples of the Gaussian."""

    # Scores of runs and of data sets.
    SCORED_IMAGES = 23
    """Images of a split that a score is measured on, the same for every run [split]."""
    WASSERSTEIN_PARTS = 24
    """The parts that images are divided into for the standard error of the distance."""


def generator(seed: int, stream: Stream, *indices: int) -> "np.random.Generator":
    """A NumPy generator at its start. ValueError if seed or indices are not from 0 to 2^32 - 1, or
    an epoch is above 2^31 - 1."""
    import numpy as np

    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(words(seed, stream, indices)))
    )


def words(seed: int, stream: Stream, indices: tuple[int, ...]) -> list[int]:
    """The entropy of a generator: a different list of 32-bit words for different arguments, also
    when zeros are appended to it.

    SeedSequence cannot tell [1] from [1, 0], and takes [2^32] for [0, 1]. Here each word is below
    2^32, the second has its highest bit set, and the third is 1 plus the number of those after it.
    The orders of a training have [seed, epoch] and [seed, epoch, 1 + window], with epochs below
    2^31.
    """
    if stream is Stream.EPOCH_ORDER:
        (epoch,) = indices
        found = [seed, epoch]
    elif stream is Stream.WINDOW_ORDER:
        epoch, window = indices
        found = [seed, epoch, 1 + window]
    else:
        epoch = 0
        found = [seed, _NAMED + int(stream), 1 + len(indices), *indices]
    if epoch >= _NAMED or not all(0 <= word < 2**32 for word in found):
        raise ValueError(f"{stream.name}: seed {seed} or indices {indices} are out of range")
    return found


_NAMED = 2**31
