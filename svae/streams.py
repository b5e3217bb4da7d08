"""Every stream of random numbers, by name.

Each use of random numbers has a member of `Stream`, and no two members share a generator: one use
never changes the numbers of another. A stream is a function of its member, a seed and further
indices, such as an image's number. NumPy's generators come from `generator`, TensorFlow's keys from
svae.model.keyed_random.key.

Two kinds of random numbers have no stream: the initial weights, which Keras draws from the user's
seed (svae.model.vae), and the order of the images before a data set is split, whose seed is fixed
(svae.datasets.splits).

Imports only the standard library; `generator` imports NumPy when it is called.
"""

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@enum.unique
class Stream(enum.IntEnum):
    """The uses of random numbers; brackets show the indices of each, in addition to a seed.

    The numbers determine results. Never change or reuse one; a new member takes the next number.
    """

    # Keys of svae.model.keyed_random.
    TRAINING_LATENTS = 0
    """Noise of the posterior samples of a training step [step]."""
    DROPOUT = 1
    """[step]"""
    EVALUATION_LATENTS = 2
    """Noise of the posterior samples outside training steps [batch]."""
    SATURATION_LATENTS = 3
    """Prior samples in which saturated pixels are counted [batch]."""

    # Training.
    EPOCH_ORDER = 4
    """Order of the training images, or of the runs that a large split is divided into [epoch]. This
    stream and the next keep the generators that they had before streams had names, so that
    trainings give the same weights as before."""
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
    FEATURES_TRAIN = 25
    """Training images whose distances in features are the floors."""
    FEATURES_ORDER = 26
    """Order of images whose features are divided into parts."""

    # Using a trained model.
    ENCODED_LATENTS = 27
    """Noise of the posterior samples that a user draws."""

    # Priors that are fitted to posteriors.
    FITTED_PRIOR_IMAGES = 30
    """Training images whose posteriors a prior is fitted to [0: a Gaussian, 1: a mixture]."""
    FITTED_PRIOR_LATENTS = 31
    """Noise of the posterior samples that a mixture is fitted to."""
    FITTED_PRIOR_MIXTURE = 32
    """Where the fit of a mixture starts."""
    PRIOR_COMPONENTS = 33
    """The component of the mixture that a sample is of [0: samples.h5, 1 + number of a further
    set]."""
    PRIOR_STATISTICS = 34
    """Latents for the batch-norm statistics of prior samples [0: their noise, 1: components]."""

    CENTROID_COMPONENTS = 35
    """The images of which k-means takes principal components, and their randomised fit."""


def generator(seed: int, stream: Stream, *indices: int) -> "np.random.Generator":
    """Return a new NumPy generator. ValueError if seed or indices are not from 0 to 2^32 - 1, or if
    an epoch is above 2^31 - 1."""
    import numpy as np

    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(words(seed, stream, indices)))
    )


def words(seed: int, stream: Stream, indices: tuple[int, ...]) -> list[int]:
    """The entropy of a generator, as 32-bit words: different lists for different arguments, even if
    zeros are appended to them.

    SeedSequence treats [1] and [1, 0] alike, and [2^32] and [0, 1]. Here each word is below 2^32,
    the second has its highest bit set, and the third is 1 plus the number of words after it. The
    orders of a training have [seed, epoch] and [seed, epoch, 1 + window], with epochs below 2^31.
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
