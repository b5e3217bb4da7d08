import hashlib

import h5py
import numpy as np
import pytest
from helpers.stores import write

from svae.datasets import origins
from svae.datasets.store import Store
from svae.datasets.store_writer import Writer
from svae.errors import UserError
from svae.pixels import scale

ATTRIBUTES = {
    "dataset": "toy",
    "padding": 2,
    "crop": None,
    "size": 12,
    "official": True,
    "note": "",
    "source_files": {},
    "source_sha256": {"archive": "ab", "labels": None},
    "names": ["a", "b/\u00e9", "\udcff\0"],
    "nothing": [],
    "quoted": '"yes"',
    "bracket": "[really]",
    "brace": "{",
    "odd": "a\0b\udcff\n",
}


def make_splits(shape=(5, 4, 3)):
    generator = np.random.default_rng(0)
    counts = {"train": 2100, "valid": 3, "test": 1}
    return {
        split: generator.integers(0, 256, (count, *shape), np.uint8)
        for split, count in counts.items()
    }


@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 4, 3), (120, 110, 3)])
def test_round_trip(tmp_path, shape):
    splits = make_splits(shape)
    splits["train"] = splits["train"][:40]
    written = write(tmp_path / "folder" / "toy.h5", splits, ATTRIBUTES)
    with Store(tmp_path / "folder" / "toy.h5") as store:
        assert store.shape == shape
        assert store.padding == 2
        assert store.attributes == written
        assert store.attributes.items() >= ATTRIBUTES.items()
        assert store.attributes["counts"] == {"train": 40, "valid": 3, "test": 1}
        assert store.attributes["official"] is True
        for split, images in splits.items():
            assert store.count(split) == len(images)
            assert store.images(split).dtype == np.uint8
            np.testing.assert_array_equal(store.images(split), images)


def test_blocks_of_the_splits_may_be_written_in_any_order(tmp_path):
    splits = make_splits()
    whole = write(tmp_path / "whole.h5", splits, ATTRIBUTES)
    with Writer(tmp_path / "mixed.h5") as writer:
        assert writer.shape is None
        for start in range(0, 2100, 97):
            for split in ("test", "train", "valid"):
                writer.append(split, splits[split][start : start + 97])
        assert writer.counts == {"train": 2100, "valid": 3, "test": 1}
        assert writer.shape == (5, 4, 3)
        mixed = writer.finish(ATTRIBUTES)
    assert mixed == whole
    with Store(tmp_path / "mixed.h5") as store:
        for split, images in splits.items():
            np.testing.assert_array_equal(store.images(split), images)


def test_arrays_need_not_be_contiguous(tmp_path):
    splits = make_splits()
    whole = write(tmp_path / "whole.h5", splits, ATTRIBUTES)
    strided = {split: np.asfortranarray(images) for split, images in splits.items()}
    assert write(tmp_path / "strided.h5", strided, ATTRIBUTES) == whole


def test_a_list_of_any_length_is_an_attribute(tmp_path):
    names = [f"{number:06d} {'x' * 90}.jpg" for number in range(5000)]
    write(tmp_path / "toy.h5", make_splits(), {**ATTRIBUTES, "names": names})
    with Store(tmp_path / "toy.h5") as store:
        assert store.attributes["names"] == names


def test_the_file_is_what_other_programs_expect(tmp_path):
    write(tmp_path / "toy.h5", make_splits((32, 32, 3)), ATTRIBUTES)
    with h5py.File(tmp_path / "toy.h5") as file:
        assert set(file) == {"train", "valid", "test"}
        for split in file.values():
            assert split.dtype == np.uint8
            assert split.shape[1:] == (32, 32, 3)
            assert 1 <= split.chunks[0] <= 100
            assert split.chunks[1:] == (32, 32, 3)
        assert file.attrs["dataset"] == "toy"
        assert file.attrs["size"] == 12
        assert len(file.attrs["checksum"]) == 64


def test_checksum_against_hashlib(tmp_path):
    splits = make_splits()
    content = b"".join(
        f"{name} {splits[name].shape} ".encode() + hashlib.sha256(splits[name].tobytes()).digest()
        for name in ("train", "valid", "test")
    )
    written = write(tmp_path / "toy.h5", splits, ATTRIBUTES)
    assert written["checksum"] == hashlib.sha256(content).hexdigest()


def changed_pixel(splits):
    splits["test"][0, 0, 0, 0] ^= 1


def moved_picture(splits):
    splits["train"], splits["valid"] = (
        splits["train"][:-1],
        np.concatenate([splits["train"][-1:], splits["valid"]]),
    )


def other_order(splits):
    splits["train"] = splits["train"][::-1]


def other_shape(splits):
    for split, images in splits.items():
        splits[split] = images.reshape(-1, 4, 5, 3)


@pytest.mark.parametrize("change", [changed_pixel, moved_picture, other_order, other_shape])
def test_different_images_have_different_checksums(tmp_path, change):
    splits = make_splits()
    before = write(tmp_path / "toy.h5", splits, ATTRIBUTES)["checksum"]
    change(splits)
    assert write(tmp_path / "toy.h5", splits, ATTRIBUTES)["checksum"] != before


def test_checksum_does_not_depend_on_attributes(tmp_path):
    first = write(tmp_path / "a.h5", make_splits(), ATTRIBUTES)
    second = write(tmp_path / "b.h5", make_splits(), {**ATTRIBUTES, "dataset": "other"})
    assert first["checksum"] == second["checksum"]


def breaks_midway(writer):
    raise OSError("source gone")


def not_uint8(writer):
    writer.append("test", np.zeros((2, 5, 4, 3), np.float32))


def no_block(writer):
    writer.append("test", np.zeros((5, 4, 3), np.uint8))


def other_image_shape(writer):
    writer.append("test", np.zeros((2, 1, 4, 3), np.uint8))


def other_split(writer):
    writer.append("validation", np.zeros((2, 5, 4, 3), np.uint8))


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (breaks_midway, OSError),
        (not_uint8, TypeError),
        (no_block, TypeError),
        (other_image_shape, ValueError),
        (other_split, KeyError),
    ],
)
def test_a_failed_write_leaves_the_existing_file(tmp_path, spoil, error, existing):
    path = tmp_path / "toy.h5"
    if existing:
        write(path, make_splits(), ATTRIBUTES)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(error), Writer(path) as writer:
        writer.append("train", make_splits()["train"])
        spoil(writer)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def no_file(path):
    pass


def text(path):
    path.write_text("no HDF5")


def truncated(path):
    write(path, make_splits(), ATTRIBUTES)
    path.write_bytes(path.read_bytes()[:3000])


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)


def edited(edit):
    def make(path):
        write(path, make_splits(), ATTRIBUTES)
        with h5py.File(path, "a") as file:
            edit(file)

    make.__name__ = edit.__name__
    return make


def without_split(file):
    del file["valid"]


def without_checksum(file):
    del file.attrs["checksum"]


def without_padding(file):
    del file.attrs["padding"]


def with_floats(file):
    del file["valid"]
    file["valid"] = np.zeros((2, 5, 4, 3))


def with_flat_images(file):
    del file["valid"]
    file["valid"] = np.zeros((2, 60), np.uint8)


def with_other_size(file):
    del file["valid"]
    file["valid"] = np.zeros((2, 5, 5, 3), np.uint8)


def with_group(file):
    del file["valid"]
    file.create_group("valid")


def claiming(count):
    """More images than the file has."""

    def claim(file):
        del file["valid"]
        file.create_dataset("valid", (count, 5, 4, 3), np.uint8, chunks=(3, 5, 4, 3))

    claim.__name__ = f"claiming_{count}"
    return claim


def with_deep_attribute(file):
    file.attrs["list"] = "[" * 3000
    del file.attrs["attributes_sha256"]


EDITS = [
    *map(claiming, (3, 10**9, 10**15)),
    with_deep_attribute,
    without_split,
    without_checksum,
    without_padding,
    with_floats,
    with_flat_images,
    with_other_size,
    with_group,
]


@pytest.mark.parametrize("make", [no_file, text, truncated, other_hdf5, *map(edited, EDITS)])
def test_other_files_are_user_errors(tmp_path, make):
    path = tmp_path / "toy.h5"
    make(path)
    with pytest.raises(UserError, match=r"toy\.h5 .*run (the pipeline again|snakemake, which)"):
        Store(path)


TEXTS = {
    "fewer": ["a"],
    "more than there is memory for": (10**15,),
    "numbers": np.arange(3),
    "a table": np.zeros((3, 2), "S3"),
    "text that is no UTF-8": np.array([b"\xff", b"a", b"b"], object),
}


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
def test_other_names_than_those_of_the_images_are_damage(tmp_path, texts):
    path = tmp_path / "toy.h5"
    write(path, make_splits(), ATTRIBUTES)
    with h5py.File(path, "a") as file:
        if isinstance(texts, tuple):
            file.create_dataset("names/valid", texts, h5py.string_dtype(), chunks=(9,))
        else:
            file["names/valid"] = texts
    with Store(path) as store, pytest.raises(UserError, match=r"toy\.h5 is damaged \(.*delete it"):
        origins.names(store, "valid")


def test_the_file_is_closed_afterwards(tmp_path):
    write(tmp_path / "toy.h5", make_splits(), ATTRIBUTES)
    path = tmp_path / "toy.h5"
    with Store(path), pytest.raises(OSError, match="already open"):
        h5py.File(path, "a")
    h5py.File(path, "a").close()


def test_scale_against_exact_arithmetic():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = scale(images)
    assert x.dtype == np.float32
    assert x.shape == images.shape
    assert (x.min(), x.max()) == (-1, 1)
    np.testing.assert_allclose(x.ravel(), np.linspace(-1, 1, 256), rtol=0, atol=2e-7)
