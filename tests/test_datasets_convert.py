"""From source files to a store: its attributes, refusals, interruptions and leftovers."""

import dataclasses
import hashlib
import io
import logging
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import archives
from helpers.disks import run_on_small_disk
from PIL import Image

from svae.datasets import convert
from svae.datasets.catalogue import catalogue
from svae.datasets.readers import Picture, Raw, cifar10, mnist_5k
from svae.datasets.readers import images as images_reader
from svae.datasets.store import Store, part_in_words
from svae.errors import UserError
from svae.jobs.disk import only_writer

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


def read_splits(reader, **files):
    """The images that a reader yields, by split: uint8 (n, height, width, channel)."""
    found = {"train": [], "valid": [], "test": []}
    for split, _, content, _ in reader.read(Raw(files, dict.fromkeys(files, 1 << 26))):
        found[split].append(content)
    return {split: np.stack(contents) for split, contents in found.items()}


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_store_records_where_the_images_come_from(archive, output):
    attributes = convert.convert("cifar10", {"archive": str(archive)}, output)
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
        "channels": 3,
        "options": {},
        "padding": 0,
        "on_broken_image": "stop",
        "max_images": None,
        "images_in_source": 24,
        "broken_images": 0,
        "broken_image_names": [],
        "unread_files": {},
        "split_rule": cifar10.SPLIT_RULE,
        "counts": {"train": 18, "valid": 2, "test": 4},
    }
    assert attributes.items() >= expected.items()
    assert {"svae", "numpy", "h5py", "pillow"} <= set(attributes["software"])
    assert str(archive.parent) not in str(attributes)


def test_an_unknown_file_is_accepted_with_a_warning(archive, output, caplog):
    with caplog.at_level(logging.WARNING):
        attributes = convert.convert("cifar10", {"archive": archive}, output)
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
    attributes = convert.convert("cifar10", {"archive": archive}, output)
    assert attributes["source_matches_official"] is True
    assert attributes["source_note"] == ""
    assert caplog.records == []


def test_the_users_checksum_is_accepted_in_any_case(archive, output):
    given = {"archive": sha256_of(archive).upper()}
    attributes = convert.convert("cifar10", {"archive": archive}, output, sha256=given)
    assert attributes["source_matches_official"] is False


@pytest.mark.parametrize("existing", [False, True])
def test_a_file_with_another_checksum_is_refused(archive, output, existing):
    if existing:
        convert.convert("cifar10", {"archive": archive}, output)
    before = output.read_bytes() if existing else None
    with pytest.raises(UserError, match=rf"{archive} has the SHA256 .*`sources\.cifar10`"):
        convert.convert("cifar10", {"archive": archive}, output, sha256={"archive": "ab" * 32})
    assert (output.read_bytes() if output.exists() else None) == before


@pytest.mark.parametrize(
    ("name", "files", "settings", "message"),
    [
        ("cifar10", {"archive": "/absent/a"}, {}, r"sources\.cifar10\.archive.* /absent/a;"),
        (
            "cifar10",
            {"archive": "/"},
            {},
            r"sources\.cifar10\.archive: there is no file /;.*download",
        ),
        ("cifar10", {}, {}, r"sources\.cifar10\.archive: no path is given"),
        ("cifar10", {"labels": "x"}, {}, r"sources\.cifar10: unknown file labels"),
        ("mnist_5k", {"archive": "x"}, {}, r"sources\.mnist_5k: unknown file archive"),
        ("mnist_5k", {}, {"sha256": {"archive": "a"}}, r"sources\.mnist_5k: unknown file archive"),
        ("store", {}, {}, r"no data set 'store'; use one of .*mnist_5k"),
        ("../cifar10", {}, {}, r"no data set '\.\./cifar10'"),
        ("svhn", {"train": "/absent/a", "test": "/absent/b"}, {}, r"svhn\.train: .* /absent/a"),
        ("svhn", {"train": __file__}, {}, r"svhn\.test: no path is given"),
        ("images", {"archive": "/absent"}, {}, r"images\.archive: .* /absent; correct the path\.$"),
        (
            "images",
            {"archive": "/"},
            {"sha256": {"archive": "ab"}},
            r"/ is a folder.* `sources\.im",
        ),
        (
            "celeba",
            {},
            {"options": {"split": "mine"}},
            r"conversion\.split: .* celeba.* official, pap",
        ),
        ("mnist_5k", {}, {"options": {"split": "paper"}}, r"conversion\.split: .*; remove the key"),
        # This file is then not needed any more; the other one still is.
        ("celeba", {}, {"options": {"split": "paper"}}, r"celeba\.archive: no path"),
    ],
)
def test_a_wrong_request_is_explained(output, name, files, settings, message):
    with pytest.raises(UserError, match=message):
        convert.convert(name, files, output, **settings)
    assert not output.parent.exists()


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
    attributes = convert.convert("cifar10", {"archive": archive}, output, crop=crop, size=size)
    assert (attributes["crop"], attributes["size"], attributes["padding"]) == (crop, size, 0)
    whole = read_splits(cifar10, archive=archive)
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
    return {split: images[:20] for split, images in read_splits(mnist_5k).items()}


def reader_of(splits):
    def read(raw):
        for split, images in splits.items():
            for number, image in enumerate(images):
                yield Picture(split, f"{split} {number}", image)

    return read


@pytest.mark.parametrize(
    ("crop", "size", "padding"), [(None, None, 2), (24, None, 0), (None, 32, 0), (20, 16, 0)]
)
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_grey_images(output, monkeypatch, digits, crop, size, padding, channels):
    monkeypatch.setattr(mnist_5k, "read", reader_of(digits))
    attributes = convert.convert(
        "mnist_5k", {}, output, crop=crop, size=size, channels=channels, processes=1
    )
    side = size or crop or 28
    assert attributes["padding"] == padding
    assert attributes["channels"] == (channels or 1)
    assert attributes["source_matches_official"] is True
    for split, images in read_all(output).items():
        assert images.shape == (20, side, side, channels or 1)
        for image, digit in zip(images, digits[split], strict=True):
            expected = Image.fromarray(digit[..., 0])
            if crop:
                edge = (28 - crop) // 2
                expected = expected.crop((edge, edge, edge + crop, edge + crop))
            if size:
                expected = expected.resize((size, size), Image.Resampling.LANCZOS)
            for channel in range(channels or 1):
                np.testing.assert_array_equal(image[..., channel], np.asarray(expected))


@pytest.mark.parametrize("crop", [-1, 33])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_crop_that_does_not_fit(archive, output, crop, processes):
    image = r"training batches, image [0-9]+"
    problem = rf"conversion\.crop {crop}.* 32x32 pixels; use 1 to 32"
    message = rf"{archive}: .* cannot be used .*\n  {image}, .*{problem}"
    with pytest.raises(UserError, match=message):
        convert.convert("cifar10", {"archive": archive}, output, crop=crop, processes=processes)
    assert list(output.parent.iterdir()) == []


def test_images_that_are_not_square(output, archive, monkeypatch):
    wide = np.arange(10 * 4 * 8 * 3).astype(np.uint8).reshape(10, 4, 8, 3)
    splits = dict.fromkeys(("train", "valid", "test"), wide)
    monkeypatch.setattr(cifar10, "read", reader_of(splits))
    convert.convert("cifar10", {"archive": archive}, output, crop=4)
    np.testing.assert_array_equal(read_all(output)["test"], wide[:, :, 2:6])
    with pytest.raises(UserError, match=r"size 4 would distort it, because its 4x8 .*crop"):
        convert.convert("cifar10", {"archive": archive}, output, size=4)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((15, 2, 2), r"19 images \(15 train, 2 valid, 2 test\).* 20 .*sources\.cifar10"),
        ((100, 1, 9), r"110 images \(100 train, 1 valid, 9 test\).* 2 in each split"),
        ((100, 9, 0), r"109 images \(100 train, 9 valid, 0 test\)"),
        ((0, 0, 0), r"0 images \(0 train, 0 valid, 0 test\)"),
        ((16, 2, 2), None),
    ],
)
def test_too_few_images(archive, output, monkeypatch, counts, message):
    sizes = dict(zip(("train", "valid", "test"), counts, strict=True))
    splits = {split: archives.numbered_images(count) for split, count in sizes.items()}
    monkeypatch.setattr(cifar10, "read", reader_of(splits))
    if message is None:
        assert convert.convert("cifar10", {"archive": archive}, output)["counts"] == sizes
        return
    with pytest.raises(UserError, match=f"{archive}: {message}"):
        convert.convert("cifar10", {"archive": archive}, output)
    assert list(output.parent.iterdir()) == []


# Image files --------------------------------------------------------------------------------------


def png(number, height=24, width=24):
    """A noisy picture, different for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path, count, changes=None):
    """Pictures of which only the first 200 differ; `changes`: other contents, by number."""
    different = [png(number) for number in range(min(count, 200))]
    with zipfile.ZipFile(path, "w") as file:
        for number in range(count):
            content = (changes or {}).get(number, different[number % len(different)])
            file.writestr(f"{number:05d}.png", content)
    return path


SETTINGS = {"crop": "square", "size": 16}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_zip(tmp_path_factory.mktemp("images") / "mine.zip", 300)


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The result of a single Pillow loop, by split."""
    found = {"train": [], "valid": [], "test": []}
    for split, _, content, _ in images_reader.read(
        Raw({"archive": pictures}, {"archive": 1 << 30})
    ):
        image = Image.open(io.BytesIO(content)).resize((16, 16), Image.Resampling.LANCZOS)
        found[split].append(np.asarray(image))
    return {split: np.stack(contents) for split, contents in found.items()}


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_same_images_from_any_number_of_processes(pictures, output, reference, processes):
    attributes = convert.convert(
        "images", {"archive": pictures}, output, **SETTINGS, processes=processes
    )
    stored = read_all(output)
    content = b""
    for split, expected in reference.items():
        np.testing.assert_array_equal(stored[split], expected)
        pixels = hashlib.sha256(expected.tobytes()).digest()
        content += f"{split} {expected.shape} ".encode() + pixels
    assert attributes["checksum"] == hashlib.sha256(content).hexdigest()
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_a_folder_has_no_checksum(tmp_path, pictures, output):
    folder = tmp_path / "pictures"
    with zipfile.ZipFile(pictures) as file:
        file.extractall(folder)
    attributes = convert.convert("images", {"archive": folder}, output, **SETTINGS)
    assert attributes["source_sha256"] == {"archive": None}
    assert attributes["source_files"] == {"archive": "pictures"}
    assert attributes["source_matches_official"] is None
    assert attributes["source_note"] == ""
    assert sum(attributes["counts"].values()) == 300


def test_a_part_is_recorded_and_the_same_in_every_run(tmp_path, pictures, output, reference):
    settings = {**SETTINGS, "max_images": 60}
    first = convert.convert("images", {"archive": pictures}, output, **settings)
    assert sum(first["counts"].values()) == 60
    assert (first["max_images"], first["images_in_source"]) == (60, 300)
    again = convert.convert(
        *("images", {"archive": pictures}, tmp_path / "again.h5"), **settings, processes=2
    )
    assert again["checksum"] == first["checksum"]
    whole = {split: {image.tobytes() for image in images} for split, images in reference.items()}
    for split, images in read_all(output).items():
        assert {image.tobytes() for image in images} <= whole[split]
    assert part_in_words(first) == "60 of 300 images"


def test_a_title_of_the_users(pictures, output):
    made = convert.convert(
        "images", {"archive": pictures}, output, **SETTINGS, title="faces (mine)"
    )
    assert made["title"] == "faces (mine)" and made["dataset"] == "images"


# A text, a truncated image, and one too large to be decoded, in different blocks.
BROKEN = {7: b"no image", 90: png(90)[:200], 250: png(250)[:16] + b"\xff" * 8 + png(250)[24:]}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return write_zip(tmp_path_factory.mktemp("images") / "damaged.zip", 300, BROKEN)


@pytest.mark.parametrize("processes", [1, 2])
def test_all_broken_images_are_listed_at_once(damaged, output, processes, caplog):
    message = rf"{damaged}: 3 images that cannot be used are listed below\. .*on_broken_image: skip"
    with pytest.raises(UserError, match=message) as caught:
        convert.convert("images", {"archive": damaged}, output, **SETTINGS, processes=processes)
    listed = re.findall(r"[0-9]{5}\.png", str(caught.value))
    assert sorted(listed) == [f"{number:05d}.png" for number in BROKEN]
    assert "image 00007.png cannot be used" in caplog.records[0].getMessage()  # at once
    assert list(output.parent.iterdir()) == []


def test_one_broken_image_and_very_many(tmp_path, output):
    one = write_zip(tmp_path / "one.zip", 40, {7: b"no image"})
    message = r"image 00007\.png cannot be used: not a .*on_broken_image: skip"
    with pytest.raises(UserError, match=message):
        convert.convert("images", {"archive": one}, output, **SETTINGS)
    many = write_zip(tmp_path / "many.zip", 140, dict.fromkeys(range(130), b"no image"))
    with pytest.raises(UserError, match=r"the first 100 images that cannot be used") as caught:
        convert.convert("images", {"archive": many}, output, **SETTINGS)
    _, line = str(caught.value).splitlines()  # one for each problem
    assert line.startswith("  00000.png, 00001.png, ") and "00099.png: not a " in line


def grey(**changes):
    pixels = {"dtype": np.uint8, "shape": (32, 32, 3)} | changes
    return np.zeros(**pixels)


MISTAKES = {
    "floats": (
        Picture("train", "a", grey(dtype=float)),
        r"'a'\) is float64 \(32, 32, 3\); use uint8",
    ),
    "16 bits": (Picture("train", "a", grey(dtype=np.uint16)), "is uint16"),
    "no channel": (Picture("train", "a", grey(shape=(32, 32))), r"is uint8 \(32, 32\); use uint8"),
    "channels first": (Picture("train", "a", grey(shape=(3, 32, 32))), r"is uint8 \(3, 32, 32\)"),
    "empty": (Picture("train", "a", grey(shape=(0, 0, 3))), "is uint8"),
    "split": (Picture("val", "a", grey()), "has the split 'val'; use one of train, valid, test"),
    "number as name": (Picture("train", 5, grey()), "has the name 5 and the label ''; use text"),
    "number as label": (Picture("train", "a", grey(), 5), "has the name 'a' and the label 5"),
    "path": (Picture("train", "a", "a.png"), "has str as content"),
    "tuple": (("train", "a", grey()), "is tuple; yield Picture"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_of_a_reader_names_reader_and_picture(case, output, monkeypatch):
    picture, problem = MISTAKES[case]
    good = Picture("train", "good", grey())
    monkeypatch.setattr(mnist_5k, "read", lambda raw: iter([good, picture]))
    with pytest.raises(UserError, match=rf"readers/mnist_5k\.py: picture 2 .*{problem}"):
        convert.convert("mnist_5k", {}, output)
    assert list(output.parent.iterdir()) == []


def test_a_reader_that_yields_nothing(output, monkeypatch):
    monkeypatch.setattr(mnist_5k, "read", lambda raw: None)
    with pytest.raises(UserError, match=r"readers/mnist_5k\.py: `read` must yield pictures"):
        convert.convert("mnist_5k", {}, output)
    monkeypatch.setattr(mnist_5k, "read", lambda raw: iter([]))
    with pytest.raises(UserError, match=r"0 images .* are too few"):
        convert.convert("mnist_5k", {}, output)


@pytest.mark.parametrize(
    ("count", "most", "way_out"),
    [
        (1, None, "Give more under `sources.mnist_5k` in config.yaml"),
        (2, 20, "Give more under `sources.mnist_5k` in config.yaml"),
        (300, None, "Give more under `sources.mnist_5k` in config.yaml"),
        (300, 21, "Raise `conversion.max_images` in config.yaml"),
    ],
)
def test_too_few_images_are_one_line(count, most, way_out, output, monkeypatch):
    """All in one split."""
    pictures = [Picture("train", f"{number}", grey()) for number in range(count)]
    monkeypatch.setattr(mnist_5k, "read", lambda raw: iter(pictures))
    with pytest.raises(UserError) as caught:
        convert.convert("mnist_5k", {}, output, max_images=most)
    stored = min(count, most or count)
    start = f"mnist_5k: {stored} images ({stored} train, 0 valid, 0 test) are too few: at least 20 "
    assert str(caught.value).startswith(start) and str(caught.value).endswith(f"{way_out}.")
    assert not output.exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_broken_images_can_be_skipped(damaged, output, reference, processes, caplog):
    attributes = convert.convert(
        "images",
        {"archive": damaged},
        output,
        **SETTINGS,
        on_broken_image="skip",
        processes=processes,
    )
    names = [f"{number:05d}.png" for number in BROKEN]
    assert attributes["on_broken_image"] == "skip"
    assert attributes["broken_images"] == 3
    assert attributes["broken_image_names"] == names
    with Store(output) as store:
        assert store.attributes == attributes
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for name, line in zip(names, lines, strict=False):
        assert f"skipped image {name}: " in line
    assert len(lines) == 4 and "skipped 3 broken images" in lines[-1]
    kept = {image.tobytes() for split in read_all(output).values() for image in split}
    whole = {image.tobytes() for split in reference.values() for image in split}
    assert kept <= whole
    assert sum(attributes["counts"].values()) == 297


def test_many_broken_images_give_few_log_lines(tmp_path, output, caplog):
    broken = dict.fromkeys(range(0, 60, 2), b"no image")
    archive = write_zip(tmp_path / "half.zip", 100, broken)
    settings = {**SETTINGS, "on_broken_image": "skip"}
    convert.convert("images", {"archive": archive}, output, **settings)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 11 and "30 broken images" in lines[-1]
    all_broken = write_zip(tmp_path / "all.zip", 40, dict.fromkeys(range(40), b"no image"))
    with pytest.raises(UserError, match=r"0 images.*; 40 broken ones were skipped"):
        convert.convert("images", {"archive": all_broken}, output, **settings)


def test_images_of_different_shapes(tmp_path, output):
    archive = write_zip(tmp_path / "mixed.zip", 200, {150: png(0, 30, 24)})
    message = (
        r"image 00150\.png would be stored with 30x24 pixels, .* 24x24 pixels: set conversion\.size"
    )
    for on_broken_image in ("stop", "skip"):
        with pytest.raises(UserError, match=message):
            convert.convert("images", {"archive": archive}, output, on_broken_image=on_broken_image)
    convert.convert("images", {"archive": archive}, output, crop="square")
    assert read_all(output)["train"].shape[1:] == (24, 24, 3)


def test_the_log_shows_the_progress(pictures, output, caplog):
    with caplog.at_level(logging.INFO):
        counts = convert.convert("images", {"archive": pictures}, output, **SETTINGS)["counts"]
    told = ", ".join(f"{count} {split}" for split, count in counts.items())
    assert f"images: 300 images ({told}), " in caplog.text
    assert caplog.text.count("images/s") == 1


# In its own process -----------------------------------------------------------------------------

SCRIPT = """
import logging, sys
from pathlib import Path
from svae.jobs.logs import log_to
archive, output, log, processes = sys.argv[1:]
with log_to(log):
    from svae.datasets.convert import convert
    settings = {"crop": "square", "size": 64}
    convert("images", {"archive": archive}, output, **settings, processes=int(processes))
"""


def command(archive, output, log, processes=2):
    return [sys.executable, "-c", SCRIPT, *map(str, (archive, output, log, processes))]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_zip(tmp_path_factory.mktemp("images") / "many.zip", 3000)


def temporary_bytes(output):
    """Size of the unfinished file; None if there is none (yet, or any more)."""
    try:
        sizes = [path.stat().st_size for path in output.parent.glob(".*-cifar10.h5")]
    except FileNotFoundError:
        return None
    return max(sizes, default=None)


@pytest.mark.slow
@pytest.mark.parametrize("written", [0, 10_000_000, 30_000_000])
def test_a_killed_conversion_does_not_affect_the_next(many, tmp_path, output, written):
    """Killed when the temporary file has that many bytes, of 37 MB; repeated if it was too late."""
    while True:
        process = psutil.Popen(command(many, output, tmp_path / "log"), stderr=subprocess.DEVNULL)
        with process:
            while not output.exists():
                size = temporary_bytes(output)
                if size is not None and size >= written:
                    break
                assert process.poll() is None or output.exists()
                time.sleep(0.002)
            children = process.children(recursive=True)
            process.kill()
        assert psutil.wait_procs(children, timeout=300)[1] == []
        if not output.exists():
            break
        output.unlink()
    left = {path.name for path in output.parent.iterdir()}
    assert left and all(name.startswith(".") for name in left)

    neighbour = output.with_name(".other-file")
    neighbour.write_text("")
    small = write_zip(tmp_path / "small.zip", 100)
    convert.convert("images", {"archive": small}, output, **SETTINGS)
    assert {path.name for path in output.parent.iterdir()} == {output.name, neighbour.name}


def high_water(process, before):
    """Bytes, the largest so far; where the system does not say, the larger of what the process has
    now and what it had `before`, which misses a peak between two looks."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.parent.parent.is_dir():
        return max(before, process.memory_info().rss)
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    return 1024 * int(found[1]) if found else before


def peak_memory(arguments):
    """Bytes of a process and its children, each at its peak; a child counts from its own command
    on, since until then it shares the memory of its parent."""
    peaks = {}
    process = psutil.Popen(arguments, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            own = process.cmdline()
            children = [child for child in process.children() if child.cmdline() != own]
            for member in (process, *children):
                peaks[member.pid] = high_water(member, peaks.get(member.pid, 0))
        except (psutil.NoSuchProcess, OSError):
            continue
        time.sleep(0.01)
    assert process.returncode == 0
    return sum(peaks.values())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(many, tmp_path, output):
    """The 2,000 further images have 25 MB when prepared."""
    few = write_zip(tmp_path / "few.zip", 1000)
    small = peak_memory(command(few, output, tmp_path / "log"))
    large = peak_memory(command(many, output, tmp_path / "log"))
    assert large - small < 16e6
    assert large < 600e6


def test_a_data_set_has_one_writer(archive, output):
    with (
        only_writer(output),
        pytest.raises(UserError, match=r"another process is still writing .*cifar10\.h5; wait"),
    ):
        convert.convert("cifar10", {"archive": archive}, output)
    assert list(output.parent.iterdir()) == []
    convert.convert("cifar10", {"archive": archive}, output)
    assert list(output.parent.iterdir()) == [output]


# Full disks ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """Bytes of the complete file: 3.7 MB of pixels in pages of 4 KiB, and HDF5's overhead."""
    folder = tmp_path_factory.mktemp("whole")
    convert.convert("images", {"archive": pictures}, folder / "a.h5", crop="square", size=64)
    return (folder / "a.h5").stat().st_size


def convert_on_small_disk(size, pictures, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    log = tmp_path / "log"
    return run_on_small_disk(folder, size, command(pictures, folder / "a.h5", log))


# In bytes less than the whole file, or as a share of it: from its first page, over the middle, to
# its last ones, which HDF5 writes when it closes the file.
@pytest.mark.parametrize(
    ("share", "less"),
    [(0, -4096), (0, -16384), (0, -100_000), (0.5, 0), (0.9, 0), (1, 40960), (1, 12288), (1, 4096)],
)
def test_a_full_disk(whole, pictures, tmp_path, share, less):
    size = int(whole * share) - less
    done = convert_on_small_disk(size, pictures, tmp_path)
    folder = tmp_path / "disk"
    message = rf"a\.h5 cannot be written: no space left on the disk of {folder}: [0-9,]+ bytes free"
    assert re.search(message, done.stderr)
    assert re.search(message, (tmp_path / "log").read_text())
    assert "Traceback" not in done.stderr
    assert done.stdout == "left: \n"
    assert done.returncode == 1


def test_a_disk_that_is_just_large_enough(whole, pictures, tmp_path):
    done = convert_on_small_disk(whole + 4096, pictures, tmp_path)
    assert (done.returncode, done.stdout) == (0, "left: a.h5\n")
