import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from svae.datasets.readers import Raw, mnist
from svae.errors import UserError

LIMIT = 1 << 20
# The numbers of the validation images among 50, in their order: fixed for good, so that results
# stay comparable.
GOLDEN_VALID = [39, 32, 25, 9, 44]


def packed(content):
    """Without a timestamp, with which the names of the tests would change."""
    return gzip.compress(content, mtime=0)


def digits(count, first=0):
    """uint8 (count, 28, 28): noise, the first pixel being the image's number."""
    images = np.random.default_rng(first).integers(0, 256, (count, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(first, first + count)
    return images


def idx(images, count=None, kind=2051):
    """As in the official files; `count` is what the header says."""
    count = len(images) if count is None else count
    return struct.pack(">4I", kind, count, *images.shape[1:]) + images.tobytes()


@pytest.fixture
def make_raw(tmp_path):
    def make(train=None, test=None, limit=LIMIT):
        paths = {}
        for role, content, usual in (
            ("train_images", train, digits(50)),
            ("test_images", test, digits(7, 100)),
        ):
            paths[role] = tmp_path / f"{role}.gz"
            paths[role].write_bytes(packed(idx(usual)) if content is None else content)
        return Raw(paths, dict.fromkeys(paths, limit))

    return make


@pytest.mark.parametrize("pack", [packed, bytes], ids=["gzip", "plain"])
def test_every_digit_is_yielded_once_and_unchanged(make_raw, pack):
    training, test = digits(50), digits(7, 100)
    pictures = list(mnist.read(make_raw(pack(idx(training)), pack(idx(test)))))
    assert len({name for _, name, *_ in pictures}) == len(pictures) == 57
    numbers = {"train": [], "valid": [], "test": []}
    for split, name, image, _ in pictures:
        assert image.dtype == np.uint8
        assert image.shape == (28, 28, 1)
        number = int(image[0, 0, 0])
        role, own = ("test_images", number - 100) if split == "test" else ("train_images", number)
        assert name == f"{role}.gz, image {own}"
        np.testing.assert_array_equal(image[..., 0], (test if split == "test" else training)[own])
        numbers[split].append(number)
    assert sorted(numbers["train"] + numbers["valid"]) == list(range(50))
    assert numbers["valid"] == GOLDEN_VALID
    assert numbers["test"] == list(range(100, 107))


@pytest.mark.parametrize(("count", "valid"), [(5, 1), (19, 1), (20, 2), (100, 10)])
def test_a_tenth_of_the_training_images_but_at_least_one_is_for_validation(make_raw, count, valid):
    splits = [split for split, *_ in mnist.read(make_raw(packed(idx(digits(count)))))]
    assert splits == ["train"] * (count - valid) + ["valid"] * valid + ["test"] * 7


def bomb(header, size):
    return packed(header + bytes(size))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "0 bytes, fewer than a header"),
        (packed(b""), "0 bytes, fewer than a header"),
        (b"<!DOCTYPE html><html>Not found</html>", "begins with the number"),
        (packed(idx(digits(5), kind=2049)), "begins with the number 2049 instead"),
        (packed(idx(np.zeros((5, 32, 28), np.uint8))), "32x28 pixels instead of 28x28"),
        (packed(idx(digits(0))), "declares 0 images"),
        (packed(idx(digits(5), count=6)), "declares 6 images, but it contains 5"),
        (packed(idx(digits(6), count=5)), "declares 5 images, but it contains more"),
        (packed(idx(digits(6)) + b"\0"), "declares 6 images, but it contains more"),
        (packed(idx(digits(6)))[:-6], "cannot be read as"),
        (packed(idx(digits(6)))[:2000], "cannot be read as"),
        (packed(idx(digits(6)))[:5], "cannot be read as"),
        (packed(idx(digits(6)))[:-8] + bytes(8), "cannot be read as"),
        (packed(idx(digits(6))) + b"more", "cannot be read as"),
        (b"\x1f\x8b" + bytes(100), "cannot be read as"),
    ],
)
@pytest.mark.parametrize("role", ["train_images", "test_images"])
def test_a_wrong_file_is_named_before_the_first_image(make_raw, role, content, problem):
    raw = make_raw(**{role.removesuffix("_images"): content})
    with pytest.raises(UserError, match=rf"{role}\.gz .*{problem}.*sources"):
        next(mnist.read(raw))


@pytest.mark.parametrize(
    ("count", "problem"),
    [
        (10, "contains more"),
        (1337, "contains more"),
        (1338, "1 to 1337 are allowed"),
        (2**32 - 1, "1337"),
    ],
)
def test_a_file_that_unpacks_to_more_than_its_limit_takes_no_memory(make_raw, count, problem):
    header = struct.pack(">4I", 2051, count, 28, 28)
    raw = make_raw(bomb(header, 1 << 26))
    tracemalloc.start()
    with pytest.raises(UserError, match=problem):
        next(mnist.read(raw))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * LIMIT
