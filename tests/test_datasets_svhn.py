import struct
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from svae.datasets.readers import Raw, svhn
from svae.errors import UserError

LIMIT = 1 << 26
# The numbers of the validation images among 50: fixed for good, so that results stay comparable.
GOLDEN_VALID = {39, 32, 25, 9, 44}


def numbered(count, first=0):
    """uint8 (count, 32, 32, 3): noise whose first pixel is the image's number."""
    images = np.random.default_rng(first).integers(0, 256, (count, 32, 32, 3), np.uint8)
    numbers = np.arange(first, first + count)
    images[:, 0, 0] = np.stack([numbers & 255, numbers >> 8, numbers * 0], axis=-1)
    return images


def number_of(image):
    return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])


def save(path, images, compress=True, **others):
    """As in the official files: X (height, width, channel, n) and y."""
    labels = np.arange(len(images), dtype=np.uint8)[:, None] % 10 + 1
    content = {"X": images.transpose(1, 2, 3, 0), "y": labels, **others}
    scipy.io.savemat(path, content, do_compression=compress)
    return path


@pytest.fixture
def make_raw(tmp_path):
    """Raw of the given files, as bytes, or of small whole ones."""

    def make(limit=LIMIT, **contents):
        files = {}
        for number, role in enumerate({"train": None, "test": None, **contents}):
            files[role] = tmp_path / f"{role}_32x32.mat"
            if role in contents:
                files[role].write_bytes(contents[role])
            else:
                save(files[role], numbered(50 if role == "train" else 7, 1000 * number))
        return Raw(files, dict.fromkeys(files, limit))

    return make


@pytest.fixture
def mat(tmp_path):
    """The bytes of the file that `save` writes."""
    return lambda *args, **options: save(tmp_path / "any.mat", *args, **options).read_bytes()


def padded(content):
    return content + bytes(-len(content) % 8)


def crafted(
    images,
    order="<",
    shape=None,
    kind=9,
    size=None,
    data_type=2,
    name=b"X",
    more=b"",
    compress=True,
    end=None,
):
    """A MATLAB file of one variable, written by hand, with any false statements on request."""

    def element(kind, content, size=None):
        size = len(content) if size is None else size
        return struct.pack(f"{order}2I", kind, size) + padded(content)

    shape = (32, 32, 3, len(images)) if shape is None else shape
    pixels = images.transpose(0, 3, 2, 1).tobytes()
    inner = element(6, struct.pack(f"{order}2I", kind, 0))
    inner += element(5, struct.pack(f"{order}{len(shape)}i", *shape))
    if len(name) <= 4:  # a "small data element"
        packed = len(name) << 16 | 1
        inner += struct.pack(f"{order}I", packed) + name.ljust(4, b"\0")
    else:
        inner += element(1, name)
    inner += element(data_type, pixels, size) + more
    matrix = element(14, inner)
    if compress:
        packed = zlib.compress(matrix)
        packed = packed if end is None else packed[:-4] + end
        matrix = struct.pack(f"{order}2I", 15, len(packed)) + packed
    text = b"MATLAB 5.0 MAT-file, by hand".ljust(124)
    return text + struct.pack(f"{order}2H", 0x0100, 0x4D49) + matrix


@pytest.mark.parametrize("compress", [True, False])
def test_every_image_is_yielded_once_and_unchanged(make_raw, mat, compress):
    images = {"train": numbered(50), "extra": numbered(30, 500), "test": numbered(7, 900)}
    raw = make_raw(**{role: mat(part, compress) for role, part in images.items()})
    pictures = list(svhn.read(raw))
    assert [name for _, name, *_ in pictures] == [
        f"{role}_32x32.mat, image {number}"
        for role, part in images.items()
        for number in range(len(part))
    ]
    found = [image for _, _, image, _ in pictures]
    assert all(image.dtype == np.uint8 for image in found)
    np.testing.assert_array_equal(np.stack(found), np.concatenate(list(images.values())))
    for split, _, image, _ in pictures:
        number = number_of(image)
        assert split == (
            "test" if number >= 900 else "valid" if number in GOLDEN_VALID else "train"
        )


def test_without_the_extra_images(make_raw):
    splits = [split for split, *_ in svhn.read(make_raw())]
    assert [splits.count(split) for split in ("train", "valid", "test")] == [45, 5, 7]


@pytest.mark.parametrize(("count", "valid"), [(5, 1), (19, 1), (20, 2), (2345, 234)])
def test_a_tenth_of_the_training_images_but_at_least_one_is_for_validation(
    make_raw, mat, count, valid
):
    pictures = list(svhn.read(make_raw(train=mat(numbered(count)))))
    assert [number_of(image) for split, _, image, _ in pictures if split != "test"] == [
        *range(count)
    ]
    assert [split for split, *_ in pictures].count("valid") == valid


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("order", "<>")
def test_files_of_either_byte_order(tmp_path, make_raw, order, compress):
    images = numbered(12)
    content = crafted(images, order, compress=compress)
    (tmp_path / "crafted.mat").write_bytes(content)
    oracle = scipy.io.loadmat(tmp_path / "crafted.mat")["X"].transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(oracle, images)
    found = [image for split, _, image, _ in svhn.read(make_raw(train=content)) if split != "test"]
    np.testing.assert_array_equal(np.stack(found), images)


@pytest.mark.parametrize("compress", [True, False])
def test_other_variables_do_not_matter(tmp_path, make_raw, compress):
    images = numbered(12)
    others = {
        "a_text": "text",
        "cells": np.array([{"b": 1}, "c"], object),
        "matrix": np.eye(5),
        "sparse": scipy.sparse.eye(5).tocsc(),
        "x": np.zeros((32, 32, 3, 4), np.uint8),
        "a_long_name_of_a_variable": 1j,
    }
    content = {**others, "X": images.transpose(1, 2, 3, 0), "z": 1.5}
    scipy.io.savemat(tmp_path / "any.mat", content, do_compression=compress)
    raw = make_raw(test=(tmp_path / "any.mat").read_bytes())
    found = [image for split, _, image, _ in svhn.read(raw) if split == "test"]
    np.testing.assert_array_equal(np.stack(found), images)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "no variable X"),
        (numbered(9), r"shape \(9, 32, 32, 3\)"),
        (numbered(9).reshape(9, -1), r"shape \(9, 3072\)"),
        (numbered(9)[0], r"shape \(32, 32, 3\)"),
        (np.zeros((32, 32, 3, 0), np.uint8), r"shape \(32, 32, 3, 0\)"),
        (np.zeros((28, 28, 3, 9), np.uint8), r"shape \(28, 28, 3, 9\)"),
        (np.zeros((32, 32, 1, 9), np.uint8), r"shape \(32, 32, 1, 9\)"),
        (np.zeros((32, 32, 3, 9, 2), np.uint8), r"shape \(32, 32, 3, 9, 2\)"),
        (np.zeros((32, 32, 3, 9), np.float64), "class 6"),
        (np.zeros((32, 32, 3, 9), np.int8), "class 8"),
        (np.zeros((32, 32, 3, 9), np.uint16), "class 11"),
        (np.zeros((32, 32, 3, 9), bool), "class 521"),
        (np.zeros((32, 32, 3, 9), np.complex64), "class 2055"),
        (np.array([numbered(9), "a text"], object), "class 1 "),
        (scipy.sparse.eye(3072).tocsc(), "class 5"),
        ("a text", "class 4"),
        ({"a": numbered(9)}, "class 2"),
    ],
)
@pytest.mark.parametrize("role", ["train", "extra", "test"])
def test_another_layout_is_refused_before_the_first_image(tmp_path, make_raw, role, value, problem):
    content = {"y": np.arange(9)} if value is None else {"X": value, "y": np.arange(9)}
    scipy.io.savemat(tmp_path / "any.mat", content, do_compression=True)
    raw = make_raw(**{role: (tmp_path / "any.mat").read_bytes()})
    with pytest.raises(UserError, match=rf"{role}_32x32\.mat.*{problem}.*sources\.svhn\.{role}"):
        next(svhn.read(raw))


def hdf5(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["X"] = np.zeros((9, 3, 32, 32), np.uint8)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\x02IM")


def version4(path):
    scipy.io.savemat(path, {"X": np.eye(3)}, format="4")


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (hdf5, "version 7.3.*-v7"),
        (lambda path: h5py.File(path, "w").close(), "version 7.3"),
        (version4, "its header is not that of version 5"),
        (lambda path: path.write_bytes(b""), "its header is not that of version 5"),
        (lambda path: path.write_bytes(b"X y"), "its header is not that of version 5"),
        (
            lambda path: path.write_bytes(b"<html>Not found</html>" * 100),
            "its header is not that of version 5",
        ),
        (lambda path: path.write_bytes(crafted(numbered(2))[:128]), "no variable X"),
        (
            lambda path: path.write_bytes(crafted(numbered(2))[:128] + b"\5\0\0\0\0\0\0\0"),
            "element of type 5",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, make_raw, write, problem):
    write(tmp_path / "any.mat")
    with pytest.raises(UserError, match=rf"test_32x32\.mat .*{problem}"):
        next(svhn.read(make_raw(test=(tmp_path / "any.mat").read_bytes())))


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999, 0.9999])
def test_a_truncated_file_is_refused_before_the_first_image(make_raw, mat, compress, share):
    content = mat(numbered(50), compress)
    with pytest.raises(UserError, match=r"test_32x32\.mat cannot be read"):
        next(svhn.read(make_raw(test=content[: int(share * len(content))])))


def test_more_images_than_the_limit_are_refused(make_raw):
    with pytest.raises(UserError, match=rf"{50 * 3072} bytes; it may have at most {50 * 3072 - 1}"):
        next(svhn.read(make_raw(limit=50 * 3072 - 1)))
    assert len(list(svhn.read(make_raw(limit=50 * 3072)))) == 57


@pytest.mark.parametrize(
    ("lie", "problem"),
    [
        ({"size": 8 * 3072}, "pixels of X differs from its shape"),
        ({"size": 10 * 3072}, "pixels of X differs from its shape"),
        ({"size": 2**32 - 1}, "pixels of X differs from its shape"),
        ({"data_type": 9}, "pixels of X differs from its shape"),
        ({"shape": (32, 32, 3, 8)}, "pixels of X differs from its shape"),
        ({"shape": (32, 32, 3, 10), "size": 10 * 3072}, "ends (3072 bytes )?early"),
        ({"shape": (32, 32, 3, -9)}, r"shape \(32, 32, 3, -9\)"),
        ({"shape": (2,) * 33}, "an element of 132 bytes"),
        ({"name": b"X" * 65}, "an element of 65 bytes"),
        ({"more": bytes(8)}, "has more pixels than its shape"),
        ({"kind": 9 | 0x0800}, "class 2057"),
    ],
)
@pytest.mark.parametrize("compress", [True, False])
def test_a_file_with_a_false_header_is_refused(make_raw, lie, problem, compress):
    assert len(list(svhn.read(make_raw(test=crafted(numbered(9), compress=compress))))) == 59
    with pytest.raises(UserError, match=rf"test_32x32\.mat.*{problem}"):
        list(svhn.read(make_raw(test=crafted(numbered(9), compress=compress, **lie))))


def test_pixels_that_differ_from_their_checksum_are_refused(make_raw):
    pictures = svhn.read(make_raw(test=crafted(numbered(9), end=bytes(4))))
    with pytest.raises(UserError, match=r"test_32x32\.mat cannot be read .*incorrect data check"):
        list(pictures)


@pytest.mark.parametrize(
    ("lie", "problem"),
    [
        ({}, "at most"),
        ({"shape": (32, 32, 3, 9)}, "pixels of X differs from its shape"),
        ({"shape": (32, 32, 3, 9), "size": 9 * 3072}, "has more pixels than its shape"),
        ({"name": bytes(1 << 26)}, "an element of"),
    ],
)
def test_a_decompression_bomb_takes_no_memory(make_raw, lie, problem):
    bomb = crafted(np.zeros((1 << 14, 32, 32, 3), np.uint8), **lie)
    assert len(bomb) < 1 << 20
    raw = make_raw(1 << 24, test=bomb)
    tracemalloc.start()
    with pytest.raises(UserError, match=problem):
        list(svhn.read(raw))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_damage_anywhere_ends_with_a_clear_error_or_the_images(make_raw):
    noise = np.random.default_rng(0)
    content = crafted(numbered(9), compress=False)
    raw = make_raw(train=content)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[noise.integers(120, 200)] = noise.integers(256)
        raw.files["test"].write_bytes(damaged)
        try:
            list(svhn.read(raw))
        except UserError:
            refused += 1
    assert refused > 150


def test_memory_does_not_grow_with_the_images(make_raw, mat):
    content = mat(np.zeros((20_000, 32, 32, 3), np.uint8))
    raw = make_raw(extra=content)
    tracemalloc.start()
    read = sum(image.nbytes for _, _, image, _ in svhn.read(raw))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read > 60e6
    assert peak < 20e6
