import dataclasses
import hashlib
import logging

import archives
import numpy as np
import pytest
from PIL import Image

from svae.datasets import cifar10, convert, mnist_5k
from svae.datasets.catalogue import catalogue
from svae.datasets.store import Store
from svae.errors import UserError

TRAINING, TEST = archives.numbered_images(20), archives.numbered_images(4, first=100)


@pytest.fixture
def archive(tmp_path):
    members = archives.cifar_members(TRAINING, TEST)
    return archives.write_tar(tmp_path / "mine.tar.gz", members)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "data" / "cifar10.h5"


def read_all(path):
    with Store(path) as store:
        return {split: store.images(split) for split in ("train", "valid", "test")}


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_store_says_where_the_images_come_from(archive, output):
    attributes = convert.convert("cifar10", {"archive": str(archive)}, None, output)
    with Store(output) as store:
        assert store.attributes == attributes
        assert store.shape == (32, 32, 3)
        assert store.padding == 0
        np.testing.assert_array_equal(store.images("test"), TEST)
    expected = {
        "dataset": "cifar10",
        "title": "CIFAR-10",
        "source_files": {"archive": "mine.tar.gz"},
        "source_sha256": {"archive": sha256_of(archive)},
        "crop": None,
        "size": None,
        "padding": 0,
        "split_rule": cifar10.SPLIT_RULE,
        "counts": {"train": 18, "valid": 2, "test": 4},
    }
    assert attributes.items() >= expected.items()
    assert {"svae", "numpy", "h5py"} <= set(attributes["software"])
    assert str(archive.parent) not in str(attributes)


def test_an_unknown_file_is_taken_with_a_warning(archive, output, caplog):
    with caplog.at_level(logging.WARNING):
        attributes = convert.convert("cifar10", {"archive": archive}, None, output)
    assert attributes["source_matches_official"] is False
    assert (
        "the published cifar-10-binary.tar.gz and cifar-10-python.tar.gz"
        in (attributes["source_note"])
    )
    assert attributes["source_note"] in caplog.text
    assert str(archive) in caplog.text


def known_by(algorithm, alternative):
    """The entry of CIFAR-10 with an official file that has the given file's checksum."""

    def entries(path):
        entry = catalogue()["cifar10"]
        content = path.read_bytes()
        hashes = {"md5": hashlib.md5(content).hexdigest(), "sha256": None}
        if algorithm == "sha256":
            hashes = {"md5": "0" * 32, "sha256": hashlib.sha256(content).hexdigest()}
        source = entry.files[0]
        if alternative:
            (other,) = source.alternatives
            source = dataclasses.replace(
                source, alternatives=(dataclasses.replace(other, **hashes),)
            )
        else:
            source = dataclasses.replace(source, **hashes)
        return {"cifar10": dataclasses.replace(entry, files=(source,))}

    return entries


@pytest.mark.parametrize("alternative", [False, True])
@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_an_official_file_is_recognised(
    archive, output, caplog, monkeypatch, algorithm, alternative
):
    entries = known_by(algorithm, alternative)(archive)
    monkeypatch.setattr(convert, "catalogue", lambda: entries)
    attributes = convert.convert("cifar10", {"archive": archive}, None, output)
    assert attributes["source_matches_official"] is True
    assert attributes["source_note"] == ""
    assert caplog.records == []


def test_the_users_checksum_is_accepted_in_any_case(archive, output):
    given = {"archive": sha256_of(archive).upper()}
    attributes = convert.convert("cifar10", {"archive": archive}, given, output)
    assert attributes["source_matches_official"] is False


@pytest.mark.parametrize("existing", [False, True])
def test_another_file_than_the_checksum_says_is_refused(archive, output, existing):
    if existing:
        convert.convert("cifar10", {"archive": archive}, None, output)
    before = output.read_bytes() if existing else None
    with pytest.raises(UserError, match=rf"{archive} has the SHA256 .*`sources\.cifar10`"):
        convert.convert("cifar10", {"archive": archive}, {"archive": "ab" * 32}, output)
    assert (output.read_bytes() if output.exists() else None) == before


@pytest.mark.parametrize(
    ("name", "files", "sha256", "message"),
    [
        ("cifar10", {"archive": "/absent/a"}, None, r"sources\.cifar10\.archive.* /absent/a;"),
        ("cifar10", {"archive": "/"}, None, r"sources\.cifar10\.archive: there is no file /"),
        ("cifar10", {}, None, r"sources\.cifar10\.archive: no file is given"),
        ("cifar10", {"labels": "x"}, None, r"sources\.cifar10: .* called labels"),
        ("mnist_5k", {"archive": "x"}, None, r"sources\.mnist_5k: .* called archive"),
        ("mnist_5k", {}, {"archive": "ab"}, r"sources\.mnist_5k: .* called archive"),
        ("store", {}, None, r"no data set 'store'; choose one of .*mnist_5k"),
        ("../cifar10", {}, None, r"no data set '\.\./cifar10'"),
    ],
)
def test_a_wrong_request_is_explained(output, name, files, sha256, message):
    with pytest.raises(UserError, match=message):
        convert.convert(name, files, sha256, output)
    assert not output.exists()


def lanczos(images, side):
    """Antialiased Lanczos-3 resizing written out in numpy: (n, s, s, c) to (n, side, side, c)."""
    factor = images.shape[1] / side
    stretch = max(factor, 1)
    centres = (np.arange(side) + 0.5) * factor
    x = (np.arange(images.shape[1]) + 0.5 - centres[:, None]) / stretch
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.clip(np.einsum("ow,nhwc->nhoc", weights, images), 0, 255).round()
    return np.clip(np.einsum("oh,nhwc->nowc", weights, rows), 0, 255)


@pytest.mark.parametrize(
    ("crop", "size"), [(None, 16), (None, 48), (20, None), (32, None), (21, None), (24, 10), (1, 4)]
)
def test_crop_and_size(archive, output, crop, size):
    attributes = convert.convert("cifar10", {"archive": archive}, None, output, crop, size)
    assert (attributes["crop"], attributes["size"], attributes["padding"]) == (crop, size, 0)
    whole = cifar10.read({"archive": archive})
    for split, images in read_all(output).items():
        expected = whole[split]
        if crop is not None:
            edge = (32 - crop) // 2
            expected = expected[:, edge : edge + crop, edge : edge + crop]
        if size is None:
            np.testing.assert_array_equal(images, expected)
        else:
            # Pillow rounds in fixed point after each of the two directions.
            assert np.abs(images - lanczos(expected, size)).max() < 2


@pytest.fixture(scope="module")
def digits():
    return {split: images[:20] for split, images in mnist_5k.read({}).items()}


@pytest.mark.parametrize(
    ("crop", "size", "padding"), [(None, None, 2), (24, None, 0), (None, 32, 0), (20, 16, 0)]
)
def test_grey_images(output, monkeypatch, digits, crop, size, padding):
    monkeypatch.setattr(mnist_5k, "read", lambda files: digits)
    attributes = convert.convert("mnist_5k", {}, None, output, crop, size)
    side = size or crop or 28
    assert attributes["padding"] == padding
    assert attributes["source_matches_official"] is True
    for split, images in read_all(output).items():
        assert images.shape == (20, side, side, 1)
        for image, digit in zip(images, digits[split], strict=True):
            expected = Image.fromarray(digit[..., 0])
            if crop:
                edge = (28 - crop) // 2
                expected = expected.crop((edge, edge, edge + crop, edge + crop))
            if size:
                expected = expected.resize((size, size), Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(image[..., 0], np.asarray(expected))


@pytest.mark.parametrize("crop", [0, -1, 33])
def test_a_crop_that_does_not_fit(archive, output, crop):
    with pytest.raises(
        UserError, match=rf"conversion.crop is {crop}, but cifar10 has 32x32 images; give 1 to 32"
    ):
        convert.convert("cifar10", {"archive": archive}, None, output, crop)
    assert not output.exists()


def test_images_that_are_not_square(output, archive, monkeypatch):
    wide = np.arange(3 * 4 * 8 * 3, dtype=np.uint8).reshape(3, 4, 8, 3)
    monkeypatch.setattr(
        cifar10, "read", lambda files: dict.fromkeys(("train", "valid", "test"), wide)
    )
    convert.convert("cifar10", {"archive": archive}, None, output, crop=4)
    np.testing.assert_array_equal(read_all(output)["test"], wide[:, :, 2:6])
    with pytest.raises(UserError, match=r"size: cifar10's images of 4x8 are not square.*crop"):
        convert.convert("cifar10", {"archive": archive}, None, output, size=4)


def test_too_few_images_for_a_split(tmp_path, output):
    members = archives.cifar_members(TRAINING[:1], TEST)
    path = archives.write_tar(tmp_path / "one.tar", members, "w")
    with pytest.raises(UserError, match=r"split `train`.*sources\.cifar10"):
        convert.convert("cifar10", {"archive": path}, None, output)
    assert not output.exists()
