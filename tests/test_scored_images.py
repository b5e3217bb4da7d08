"""Which images scores are measured on: random ones, the same for every run."""

import h5py
import numpy as np
import pytest
from helpers import stores
from helpers.scored import score_of

from svae.datasets import SPLITS
from svae.datasets.store import Store
from svae.jobs.files import write_json
from svae.pixels import scale
from svae.scores.measures.parzen import CONTEXT, TERMS
from svae.scores.measuring import CONTEXT as ORIGIN
from svae.scores.parzen_window import REFINE_COUNT
from svae.scores.scored_images import scored_images
from svae.scores.store_score import parzen_of
from svae.settings.parzen import ParzenSettings

SHAPE = (8, 8, 3)
SETTINGS = ParzenSettings(n_valid=200, n_test=200)
# Between the widths that the refinement tries: two steps of the grid, in as many parts.
STEP = 2 * np.log(10) / 9 / (REFINE_COUNT - 1)


def numbered(n):
    """n images, each of its own number in its first two bytes."""
    images = np.zeros((n, *SHAPE), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = divmod(np.arange(n), 256)
    return images


def numbers_of(images):
    return 256 * images[:, 0, 0, 0].astype(int) + images[:, 0, 0, 1]


@pytest.fixture
def store(tmp_path):
    splits = dict.fromkeys(SPLITS, numbered(700))
    stores.write(tmp_path / "data.h5", splits, {"dataset": "numbers", "padding": 0})
    with Store(tmp_path / "data.h5") as store:
        yield store


def test_random_images_in_their_order_each_at_most_once(store):
    numbers = numbers_of(scored_images(store, "test", 200))
    assert len(numbers) == 200 and (np.diff(numbers) > 0).all()
    # of a random draw the mean is within 5 standard errors of the middle
    assert abs(numbers.mean() - 349.5) < 5 * 700 / np.sqrt(12 * 200)
    np.testing.assert_array_equal(numbers_of(scored_images(store, "test", 200)), numbers)
    assert not np.array_equal(numbers_of(scored_images(store, "valid", 200)), numbers)
    for most in (700, 10_000):
        np.testing.assert_array_equal(numbers_of(scored_images(store, "test", most)), range(700))


def by_class(n, rng):
    """n images around one of two others, of the first class less closely than of the second."""
    centres = np.array([80, 170])[:, None, None, None] * np.ones((2, *SHAPE))
    spread = np.repeat([10.0, 20.0], n // 2)
    images = centres.repeat(n // 2, axis=0) + spread[:, None, None, None] * rng.standard_normal(
        (n, *SHAPE)
    )
    return np.clip(images, 0, 255).round().astype(np.uint8)


class FirstImages(Store):
    """A store whose first images are taken, as all scores once did."""

    def split(self, split):
        return super().split(split)[:200]


def test_a_data_set_sorted_by_class_has_the_sigma_of_its_shuffled_copy(tmp_path):
    rng = np.random.default_rng(0)
    splits = {name: by_class(1200, rng) for name in SPLITS}
    shuffled = {name: rng.permutation(images) for name, images in splits.items()}
    samples = scale(rng.permutation(by_class(400, rng)))
    found = {}
    for name, content in (("sorted", splits), ("shuffled", shuffled)):
        path = tmp_path / f"{name}.h5"
        stores.write(path, content, {"dataset": "classes", "padding": 0})
        for kind in (Store, FirstImages):
            with kind(path) as store:
                found[name, kind] = parzen_of(samples, store, SETTINGS, name)
    apart = {
        kind: abs(np.log(found["sorted", kind].sigma / found["shuffled", kind].sigma))
        for kind in (Store, FirstImages)
    }
    assert apart[Store] < STEP < 4 * STEP < apart[FirstImages]
    scores = [found[name, Store].log_likelihood for name in ("sorted", "shuffled")]
    errors = [found[name, Store].standard_error for name in ("sorted", "shuffled")]
    assert abs(np.subtract(*scores)) < 4 * np.hypot(*errors)


def test_every_run_is_scored_on_the_same_images(tmp_path):
    """Two seeds with the same samples have the same score of each image."""
    rng = np.random.default_rng(1)
    splits = {name: by_class(100, rng) for name in SPLITS}
    checksum = stores.write(tmp_path / "data.h5", splits, {"dataset": "c", "padding": 0})[
        "checksum"
    ]
    with h5py.File(tmp_path / "samples.h5", "w") as file:
        file["samples"] = scale(by_class(50, rng))
        file.attrs.update(weights_sha256="w", dataset_checksum=checksum, batch_norm="moving")
    per_image = []
    for seed in (0, 1):
        record = dict.fromkeys((*CONTEXT, *ORIGIN), 1) | {"software": {}, "seed": seed}
        record |= {"dataset_checksum": checksum, "weights_sha256": "w", "variant": "tiny"}
        write_json(tmp_path / "run.json", record | {"test": dict.fromkeys(TERMS, 1)})
        settings = {"n_valid": 20, "n_test": 30, "fresh_draws": 0}
        reads = {"sampling": {"n_samples": 50}}
        per_image.append(score_of("parzen", tmp_path, tmp_path, reads, **settings)[1])
    one, two = (each["log_likelihood"] for each in per_image)
    assert len(one) == 30
    np.testing.assert_array_equal(one, two)
