"""The Parzen-window score of any samples on the images of a store.

Does not depend on any model, so that an edit of one does not make sanity rows stale.
"""

import logging
from dataclasses import asdict
from typing import Any

import h5py
import numpy as np

from svae.datasets.store import Store
from svae.pixels import PIXEL_RANGE
from svae.scores import parzen_window
from svae.scores.scored_images import scored_images
from svae.settings.parzen import ParzenSettings

log = logging.getLogger(__name__)

# The field's protocol (Goodfellow et al. 2014), as far as the data set has the images.
MOST_VALID, MOST_TEST = 1000, 10_000

# Arrays in the per-image file -> those of a result.
PER_IMAGE = {"log_likelihood": "per_image", "grid_log_likelihood": "grid_per_image"}


def parzen_of(
    samples: np.ndarray | h5py.Dataset, store: Store, settings: ParzenSettings, name: str
) -> parzen_window.ParzenResult:
    """The score of samples on the images of a store; `name` is the name of the samples in the log.

    samples: float32 (n, height, width, channel), pixels on [-1, 1]. UserError if there are fewer
    images than asked for.
    """
    sigmas = parzen_window.sigma_grid(
        settings.sigma_log10_min, settings.sigma_log10_max, settings.sigma_count
    )
    n_valid, n_test = _counts(settings, store)
    valid, test = _images(store, settings, n_valid, n_test)
    result = parzen_window.score(
        samples,
        valid,
        test,
        sigmas,
        settings.protocol,
        n_valid,
        n_test,
        refine=refines(settings),
    )
    if result.sigma_at_grid_edge:
        log.warning(
            "%s: sigma %.3g lies at the edge of its grid: the score is a lower bound; "
            "widen parzen.sigma_log10_min or parzen.sigma_log10_max",
            name,
            result.sigma,
        )
    log.info(
        "%s: %.1f +- %.1f nats per image (%s, sigma %.3f, %d samples, %d test images)",
        name,
        result.log_likelihood,
        result.standard_error,
        result.protocol,
        result.sigma,
        result.n_samples,
        result.n_test,
    )
    return result


def images_scored(store: Store, settings: ParzenSettings) -> np.ndarray:
    """The test images of `parzen_of`: uint8 (n_test, height, width, channel)."""
    n_valid, n_test = _counts(settings, store)
    return _images(store, settings, n_valid, n_test)[1][:n_test]


def fields(result: parzen_window.ParzenResult) -> dict[str, Any]:
    """A score as JSON has it, with its unit; without the scores of single images."""
    content = asdict(result)
    for name in PER_IMAGE.values():
        del content[name]
    return {
        **content,
        "unit": "nats per image, for a density of pixels on [-1, 1]",
        "pixel_range": list(PIXEL_RANGE),
    }


def per_image(result: parzen_window.ParzenResult) -> dict[str, np.ndarray]:
    """The scores of single images, float64 (n_test,) each, as the per-image file has them."""
    return {name: getattr(result, attribute) for name, attribute in PER_IMAGE.items()}


def refines(settings: ParzenSettings) -> bool:
    """Whether sigma is searched for between the widths of the grid; auto: where that can be."""
    if settings.refine == "auto":
        return settings.protocol != "paper"
    return settings.refine


def _images(
    store: Store, settings: ParzenSettings, n_valid: int, n_test: int
) -> tuple[np.ndarray, np.ndarray]:
    """Validation and test images. Those of protocol paper are the blocks of the published code,
    from the start of the test images, and no validation images."""
    if settings.protocol == "paper":
        blocks = n_valid * settings.sigma_count
        return store.images("valid", 0), store.images("test", max(n_test, blocks))
    return scored_images(store, "valid", n_valid), scored_images(store, "test", n_test)


def _counts(settings: ParzenSettings, store: Store) -> tuple[int, int]:
    """The numbers of images that choose sigma and that are scored; auto is the usual number."""
    valid, test = store.count("valid"), store.count("test")
    if settings.protocol == "paper":
        valid = test // settings.sigma_count
    n_valid, n_test = settings.n_valid, settings.n_test
    return (
        min(MOST_VALID, valid) if n_valid == "auto" else n_valid,
        min(MOST_TEST, test) if n_test == "auto" else n_test,
    )
