"""Kernel densities by their definition."""

import numpy as np
import scipy.special


def log_mean_kernel(squared_distances, sigmas, dimension):
    """(n_sigmas,): log of the mean Gaussian kernel over one image's distances to all samples."""
    return np.array(
        [
            scipy.special.logsumexp(-squared_distances / (2 * sigma**2))
            - np.log(len(squared_distances))
            - dimension * np.log(sigma * np.sqrt(2 * np.pi))
            for sigma in sigmas
        ]
    )


def brute_force(images, samples, sigmas):
    """The definition, image by image, from explicit float64 differences: (n_sigmas, n)."""
    images = np.asarray(images, np.float64).reshape(len(images), -1)
    samples = np.asarray(samples, np.float64).reshape(len(samples), -1)
    columns = []
    for image in images:
        difference = samples - image
        squared_distances = np.einsum("ij,ij->i", difference, difference)
        columns.append(log_mean_kernel(squared_distances, sigmas, images.shape[1]))
    return np.array(columns).T


def replaced(array, row, value):
    """A copy of `array` with one pixel of one row set to `value`."""
    array = array.copy()
    array[row, 1, 0, 0] = value
    return array
