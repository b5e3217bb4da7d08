"""The contact sheet shows images from all of a store, and how they were made."""

import itertools

import numpy as np
import pytest
from helpers import stores
from helpers.pictures import decoded, enlarged, noise, places

from svae.datasets import SPLITS, store
from svae.report import draw_contact_sheet
from svae.report.draw_contact_sheet import draw, evenly_spaced, sheet_columns, sheet_text


@pytest.mark.parametrize(
    ("count", "most"), [(162_770, 36), (37, 36), (36, 36), (71, 36), (5, 12), (1, 12), (2, 12)]
)
def test_evenly_spaced(count, most):
    chosen = evenly_spaced(count, most)
    assert len(chosen) == min(count, most)
    assert chosen[0] == 0 and chosen[-1] == count - 1
    distances = {after - before for before, after in itertools.pairwise(chosen)}
    assert not distances or (min(distances) >= 1 and max(distances) - min(distances) <= 1)


def test_a_file_sorted_by_class_shows_every_class():
    classes = np.repeat(np.arange(10), 500)
    assert set(classes[evenly_spaced(5000, 24)]) == set(range(10))


@pytest.mark.parametrize(
    ("width", "columns"), [(28, 12), (64, 12), (178, 12), (256, 9), (512, 4), (4096, 2)]
)
def test_large_images_have_fewer_columns(width, columns):
    assert sheet_columns(width) == columns


REQUIRED = {"dataset": "faces", "padding": 0, "title": "Faces", "split_rule": "all by hash"}
EVENLY = "\nShown are evenly spaced images from the first to the last of each split."


@pytest.mark.parametrize(
    ("attributes", "title", "caption"),
    [
        pytest.param(
            {"crop": None, "size": None},
            "Faces: 8x6x3 (height x width x channels); crop: none, size: none",
            "Split rule: all by hash" + EVENLY,
            id="the least",
        ),
        pytest.param(
            {
                "crop": 148,
                "size": 64,
                "options": {"split": "paper", "category": None},
                "max_images": 10_000,
                "images_in_source": 3_033_042,
                "broken_images": 1234,
                "unread_files": {".txt": 2, ".heic": 1500, "": 1},
                "source_matches_official": False,
            },
            "Faces: 8x6x3 (height x width x channels); crop: 148, size: 64, split: paper, "
            "category: none",
            "Split rule: all by hash" + EVENLY + "\nChosen by the hash of their names: 10,000 of "
            "3,033,042 images."
            "\nBroken images skipped: 1,234"
            "\nFiles of formats that are not read: 1,500 .heic, 2 .txt, 1 without a usual suffix"
            "\nThe source files are NOT the official ones.",
            id="everything",
        ),
        pytest.param(
            {
                "crop": 8,
                "size": None,
                "options": {},
                "broken_images": 0,
                "source_matches_official": True,
            },
            "Faces: 8x6x3 (height x width x channels); crop: 8, size: none",
            "Split rule: all by hash" + EVENLY + "\nThe source files are the official ones.",
            id="official",
        ),
        pytest.param(
            {"crop": 8, "size": 9, "options": None, "source_matches_official": None},
            "Faces: 8x6x3 (height x width x channels); crop: 8, size: 9",
            "Split rule: all by hash" + EVENLY,
            id="nothing official",
        ),
    ],
)
def test_what_a_contact_sheet_says(tmp_path, attributes, title, caption):
    """Through a file, as in the pipeline."""
    images = dict.fromkeys(SPLITS, noise(1, (8, 6, 3)))
    stores.write(tmp_path / "faces.h5", images, {**REQUIRED, **attributes})
    with store.Store(tmp_path / "faces.h5") as faces:
        assert sheet_text(faces.attributes, faces.shape) == (title, caption)


def test_every_split_is_shown_from_end_to_end(tmp_path):
    shape = (64, 64, 3)
    counts = {"train": 50, "valid": 30, "test": 3}
    splits = {split: noise(count, shape, count) for split, count in counts.items()}
    stores.write(tmp_path / "faces.h5", splits, {**REQUIRED, "crop": None, "size": None})
    draw(tmp_path / "faces.h5", tmp_path / "results/dataset.png")
    picture = decoded(tmp_path / "results/dataset.png")
    for split, shown in (("train", 36), ("valid", 24), ("test", 3)):
        blocks = (enlarged(image, 2) for image in splits[split])
        found = [index for index, block in enumerate(blocks) if places(picture, block)]
        assert found == evenly_spaced(counts[split], shown)


def one_pixel(images):
    images = images * 0
    images[-1, -1, -1, -1] = 1
    return images


@pytest.mark.parametrize(
    ("make", "equal"),
    {
        "black": (lambda images: images * 0, True),
        "one colour": (lambda images: images * 0 + np.uint8([250, 3, 17]), True),
        "one picture": (lambda images: np.repeat(images[:1], len(images), axis=0), True),
        "one pixel differs": (one_pixel, False),
        "noise": (lambda images: images, False),
    }.values(),
)
def test_a_split_of_equal_images_is_a_warning(tmp_path, make, equal, caplog, monkeypatch):
    splits = {split: noise(40, (8, 8, 3), seed) for seed, split in enumerate(SPLITS)}
    splits["valid"] = make(splits["valid"])
    stores.write(tmp_path / "a.h5", splits, {**REQUIRED, "crop": None, "size": None})
    captions = []
    monkeypatch.setattr(
        draw_contact_sheet, "contact_sheet", lambda *arguments: captions.append(arguments[2])
    )
    monkeypatch.setattr(draw_contact_sheet, "save", lambda *arguments: None)
    draw(tmp_path / "a.h5", tmp_path / "dataset.png")
    warning = "all 40 images of valid are equal"
    assert (f"WARNING: {warning}" in captions[0]) == equal
    assert (warning in caplog.text) == equal
