import hashlib
import unicodedata
from collections import Counter

import numpy as np
import pytest

from svae.datasets.readers import Picture
from svae.datasets.splits import by_name, chosen_by_hash, shuffled

GOLDEN_10 = [3, 1, 0, 7, 8, 5, 2, 4, 6, 9]
GOLDEN_50000 = [22809, 16625, 45491, 23380, 34471]


@pytest.mark.parametrize("count", [0, 1, 2, 100, 50_000])
def test_a_permutation(count):
    assert np.array_equal(np.sort(shuffled(count)), np.arange(count))


def test_it_never_changes():
    """These positions determine which images are held out; a change would mix the splits."""
    assert shuffled(10).tolist() == GOLDEN_10
    assert shuffled(50_000)[-5:].tolist() == GOLDEN_50000


def test_no_seed_of_the_user_matters():
    before = shuffled(1000)
    np.random.seed(1)  # noqa: NPY002 (the state that a user's code may set)
    assert np.array_equal(shuffled(1000), before)


def test_neighbours_are_separated():
    order = shuffled(5000)
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.005


SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        # From `printf NAME | sha256sum`; the comment after each is the first byte.
        ("faces/4.jpg", "train"),  # 3a
        ("faces/11.jpg", "train"),  # c7, 0.78
        ("faces/40.jpg", "valid"),  # d5, 0.83
        ("faces/2.jpg", "valid"),  # dd
        ("faces/3.jpg", "test"),  # e8, 0.91
        ("Übung/á.jpg", "test"),  # ed
    ],
)
def test_the_split_of_a_name_never_changes(name, split):
    assert by_name(name, SHARES) == split


@pytest.mark.parametrize("shares", [SHARES, {"a": 0.5, "b": 0.5}, {"a": 0.01, "b": 0.99}, {"a": 1}])
def test_splits_have_their_shares_of_names(shares):
    count = 20_000
    found = Counter(by_name(f"folder/{number:06d}.jpg", shares) for number in range(count))
    assert found.keys() == shares.keys()
    for split, share in shares.items():
        assert abs(found[split] - share * count) <= 4 * np.sqrt(count * share * (1 - share))


def test_accents_count_as_one_letter_however_they_are_written():
    for number in range(100):
        name = f"Ä{number}é.jpg"
        composed, split_up = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
        assert composed != split_up
        assert by_name(composed, SHARES) == by_name(split_up, SHARES)


def pictures_named(names, split="train"):
    return [Picture(split, name, name.encode()) for name in names]


def smallest_hashes(pictures, most):
    """The same choice by a sort of all."""

    def key(picture):
        text = f"max_images {picture.split}/{picture.name}".encode()
        return hashlib.sha256(text).digest()[:16]

    chosen = {picture.name for picture in sorted(pictures, key=key)[:most]}
    return [picture for picture in pictures if picture.name in chosen]


@pytest.mark.parametrize("most", [1, 20, 300, 1000])
def test_a_part_is_that_with_the_smallest_hashes_in_its_order(tmp_path, most):
    pictures = pictures_named(f"{number}.jpg" for number in range(300))
    found = list(chosen_by_hash(iter(pictures), most, tmp_path))
    assert found == smallest_hashes(pictures, most) and len(found) == min(most, 300)


def test_a_part_does_not_depend_on_the_order_and_contains_smaller_ones(tmp_path):
    pictures = pictures_named(f"{number}.jpg" for number in range(300))
    large, small = (
        {picture.name for picture in chosen_by_hash(order, most, tmp_path)}
        for order, most in ((pictures, 100), (pictures[::-1], 30))
    )
    assert small < large


def test_a_part_has_every_split(tmp_path):
    pictures = [
        Picture(by_name(f"{n}", {"train": 0.8, "valid": 0.1, "test": 0.1}), f"{n}", b"")
        for n in range(3000)
    ]
    counts = Counter(picture.split for picture in chosen_by_hash(pictures, 500, tmp_path))
    assert abs(counts["train"] - 400) < 40 and min(counts["valid"], counts["test"]) > 25
