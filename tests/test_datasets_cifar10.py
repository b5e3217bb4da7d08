import pickle
import re

import numpy as np
import pytest
from helpers import archives

from svae.datasets.readers import Raw, cifar10
from svae.errors import UserError

BATCH_WRITERS = [
    archives.binary_batch,
    archives.python2_batch,
    archives.numpy1_batch,
    archives.python3_batch,
]
# The numbers of the validation images among 50: fixed for good, so that results stay comparable.
GOLDEN_VALID = [39, 32, 25, 9, 44]


def read(path):
    """The images by split."""
    splits = {}
    for split, name, image, _ in cifar10.read(Raw({"archive": path}, {"archive": 1 << 28})):
        splits.setdefault(split, []).append(image)
        part = "test batch" if split == "test" else "training batches"
        assert re.fullmatch(f"{part}, image [0-9]+", name)
    return {split: np.stack(images) for split, images in splits.items()}


@pytest.fixture
def images():
    return archives.numbered_images(50), archives.numbered_images(7, first=1000)


@pytest.mark.parametrize("batch", BATCH_WRITERS)
@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "mine.bin"])
def test_the_images_are_complete_whatever_the_layout_and_name(tmp_path, images, batch, name):
    training, test = images
    path = archives.write_tar(tmp_path / name, archives.cifar_members(training, test, batch))
    splits = read(path)
    assert list(splits) == ["train", "valid", "test"]
    np.testing.assert_array_equal(splits["test"], test)
    for split in ("train", "valid"):
        assert splits[split].dtype == np.uint8
        np.testing.assert_array_equal(splits[split], training[archives.numbers_of(splits[split])])


def test_the_splits_are_disjoint_complete_and_fixed(tmp_path, images):
    path = archives.write_tar(tmp_path / "a.tar", archives.cifar_members(*images), "w")
    splits = read(path)
    train, valid = (archives.numbers_of(splits[split]) for split in ("train", "valid"))
    assert sorted(train + valid) == list(range(50))
    assert valid == GOLDEN_VALID


@pytest.mark.parametrize(("count", "valid"), [(5, 1), (19, 1), (20, 2), (100, 10)])
def test_a_tenth_of_the_training_images_but_at_least_one_is_for_validation(tmp_path, count, valid):
    training, test = archives.numbered_images(count), archives.numbered_images(3)
    path = archives.write_tar(tmp_path / "a.tar", archives.cifar_members(training, test), "w")
    splits = read(path)
    assert {split: len(images) for split, images in splits.items()} == {
        "train": count - valid,
        "valid": valid,
        "test": 3,
    }


def test_the_archive_as_published_has_other_members_too(tmp_path, images):
    members = {
        "cifar-10-batches-bin/batches.meta.txt": b"airplane\n",
        **archives.cifar_members(*images, folder="cifar-10-batches-bin"),
        "cifar-10-batches-bin/readme.html": b"<meta>",
    }
    path = archives.write_tar(tmp_path / "a.tar.gz", members)
    np.testing.assert_array_equal(read(path)["test"], images[1])


def test_batches_in_two_folders_are_refused(tmp_path, images):
    both = archives.cifar_members(*images, folder="x") | archives.cifar_members(*images, folder="y")
    path = archives.write_tar(tmp_path / "a.tar", both, "w")
    with pytest.raises(UserError, match=r"a\.tar contains data_batch_1\.bin twice"):
        read(path)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, images):
    canary = tmp_path / "canary"
    pickled = b"cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    members = archives.cifar_members(*images, archives.python2_batch)
    members["cifar-10/data_batch_2"] = pickled
    path = archives.write_tar(tmp_path / "a.tar.gz", members)
    with pytest.raises(UserError, match=r"a\.tar\.gz: data_batch_2 .*asks for posix\.system"):
        read(path)
    assert not canary.exists()
    pickle.loads(pickled)
    assert canary.exists()


@pytest.mark.parametrize("batch", BATCH_WRITERS[:2])
@pytest.mark.parametrize("part", [*archives.BATCHES, "test_batch"])
def test_a_missing_batch_is_named(tmp_path, images, batch, part):
    members = archives.cifar_members(*images, batch)
    kept = {name: content for name, content in members.items() if part not in name}
    path = archives.write_tar(tmp_path / "a.tar.gz", kept)
    with pytest.raises(UserError, match=rf"a\.tar\.gz lacks {part}.*sources\.cifar10\.archive"):
        read(path)


def test_another_tar_archive_is_refused(tmp_path):
    path = archives.write_tar(tmp_path / "a.tar.gz", {"holiday.jpg": b"..."})
    with pytest.raises(UserError, match="not a complete CIFAR-10 archive"):
        read(path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path, images, mode, share):
    path = archives.write_tar(tmp_path / "a.tar", archives.cifar_members(*images), mode)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"a\.tar"):
        read(path)


def test_an_oversized_batch_is_refused(tmp_path, images):
    members = archives.cifar_members(*images)
    members["cifar-10/test_batch.bin"] = bytes((64 << 20) + 1)
    path = archives.write_tar(tmp_path / "a.tar", members, "w")
    with pytest.raises(UserError, match=r"test_batch\.bin' has 67108865 bytes"):
        read(path)


@pytest.mark.parametrize(
    ("batch", "name", "content", "problem"),
    [
        (archives.binary_batch, "data_batch_3.bin", bytes(3072), "3072 bytes"),
        (archives.python2_batch, "data_batch_3", b"junk", "pickled arrays"),
        (archives.python2_batch, "data_batch_3", b"\x80\x02}.", "has no entry `data`"),
        (
            archives.python2_batch,
            "data_batch_3",
            archives.python3_batch(archives.numbered_images(1)).replace(b"u1", b"i1"),
            "has no entry `data`",
        ),
    ],
)
def test_a_damaged_batch_is_named(tmp_path, images, batch, name, content, problem):
    members = archives.cifar_members(*images, batch) | {f"cifar-10/{name}": content}
    path = archives.write_tar(tmp_path / "a.tar", members, "w")
    with pytest.raises(UserError, match=rf"a\.tar: {name} .*{problem}"):
        read(path)
