"""The figures show each image where it belongs, as it is, and every text whole."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from svae.datasets import store
from svae.figures import (
    _sheet,
    comparison,
    contact_sheet,
    evenly_spaced,
    sheet_columns,
    sheet_text,
)

SCRIPT = Path(__file__).parents[1] / "scripts/dataset.py"
# Shape of an image, and how many pixels of the figure, in each direction, one of its own gets.
SHEETS = [((28, 28, 1), 5), ((64, 64, 3), 2), ((218, 178, 3), 1), ((256, 256, 3), 1)]
TITLE = "CelebA: 64x64x3 (height x width x channels); crop: 148, size: 64, split: paper"
CAPTION = "Split rule: " + 12 * "the first and some more of the images train, " + "\nThe end."


def noise(n, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def decoded(path):
    """A PNG as uint8 (height, width, 3)."""
    return np.asarray(Image.open(path).convert("RGB"))


def enlarged(image, scale):
    """As it should look in a figure: uint8 (scale height, scale width, 3)."""
    colour = np.broadcast_to(image, (*image.shape[:2], 3))
    return np.kron(colour, np.ones((scale, scale, 1), np.uint8))


def places(picture, block):
    """Every place, (top, left), at which the picture holds exactly this block."""
    picture, block = (
        pixels @ np.array([1 << 16, 1 << 8, 1], np.float32) for pixels in (picture, block)
    )
    height, width = block.shape
    tops, lefts = np.nonzero(picture[height - 1 :, width - 1 :] == block[-1, -1])
    for y, x in zip(range(0, height, 7), range(0, width, 5), strict=False):
        near = picture[tops + y, lefts + x] == block[y, x]
        tops, lefts = tops[near], lefts[near]
    return [
        (top, left)
        for top, left in zip(tops.tolist(), lefts.tolist(), strict=True)
        if np.array_equal(picture[top : top + height, left : left + width], block)
    ]


def place(picture, block):
    """The one place at which the picture holds exactly this block."""
    (only,) = places(picture, block)
    return only


@pytest.mark.parametrize("columns", [1, 10])
@pytest.mark.parametrize(("shape", "scale"), [*SHEETS[:2], ((32, 32, 3), 5)])
def test_a_comparison_shows_every_image_where_it_belongs(tmp_path, shape, scale, columns):
    """Rows in their order, images beside each other with one of their own pixels between."""
    names = ["training images", "vanilla", "a_rather_long_name_of_a_variant"]
    counts = [columns, max(1, columns - 1), columns]  # a shorter row leaves its end white
    levels = [noise(count, shape, seed) for seed, count in enumerate(counts)]
    rows = {name: row / 127.5 - 1 for name, row in zip(names, levels, strict=True)}
    comparison(rows, "Noise: samples of each variant", tmp_path / "figure.png")
    picture = decoded(tmp_path / "figure.png")
    height, step = scale * shape[0], scale * (shape[1] + 1)
    tops = []
    for row in levels:
        found = [place(picture, enlarged(image, scale)) for image in row]
        top, left = found[0]
        assert found == [(top, left + step * column) for column in range(len(row))]
        label = picture[top : top + height, :left]
        assert label.min() < 100  # there is one,
        assert label[:, :4].min() > 250 and label[:, -4:].min() > 250  # whole
        end = left + step * len(row) - scale
        assert (picture[top : top + height, end:] == 255).all()
        tops.append(top)
    assert all(after - before >= height + 8 for before, after in itertools.pairwise(tops))


def test_a_comparison_cuts_what_is_beyond_black_and_white(tmp_path):
    image = np.array([-3, -1, 0, 1, 3.0]).reshape(1, 1, 5, 1).repeat(5, axis=1)
    comparison({"rows": image}, "Cut", tmp_path / "figure.png")
    expected = np.array([0, 0, 128, 255, 255], np.uint8).reshape(1, 5, 1).repeat(5, axis=0)
    place(decoded(tmp_path / "figure.png"), enlarged(expected, 30))


@pytest.mark.parametrize(("shape", "scale"), SHEETS)
def test_a_contact_sheet_shows_every_image_unchanged(tmp_path, shape, scale):
    columns = 5
    shown = {"train": noise(12, shape, 0), "valid": noise(5, shape, 1), "test": noise(2, shape, 2)}
    splits = {split: (images, 1000 * len(images)) for split, images in shown.items()}
    contact_sheet(splits, TITLE, CAPTION, columns, tmp_path / "sheet.png")
    picture = decoded(tmp_path / "sheet.png").copy()
    height, width = scale * shape[0], scale * shape[1]
    bottom = 0
    for images in shown.values():
        found = [place(picture, enlarged(image, scale)) for image in images]
        top, left = found[0]
        across = found[1][1] - left
        down = found[columns][0] - top if len(found) > columns else across + height - width
        assert across >= width + 4 and down >= height + 4
        cells = itertools.product(range(-(-len(images) // columns)), range(columns))
        expected = [(top + row * down, left + column * across) for row, column in cells]
        assert found == expected[: len(images)]
        label = picture[bottom:top, left:]
        assert (label.min(axis=(1, 2)) < 100).sum() > 15  # lines of pixels with ink
        bottom = found[-1][0] + height
        for y, x in found:
            picture[y : y + height, x : x + width] = 255
        assert (picture[top:bottom] == 255).all()  # there is nothing else
    assert (picture[bottom:].min(axis=(1, 2)) < 100).sum() > 15


@pytest.mark.parametrize("columns", [1, 12])
@pytest.mark.parametrize("shape", [shape for shape, _ in SHEETS])
def test_the_texts_of_a_contact_sheet_are_whole(shape, columns):
    splits = {
        "train": (noise(columns + 1, shape), 162_770),
        "valid": (noise(2, shape), 2),
        "test": (noise(1, shape), 1),
    }
    figure = _sheet(splits, TITLE, CAPTION, columns)
    texts = [text.get_text() for text in figure.texts]
    labels = ["train: 162,770 images", "valid: 2 images", "test: 1 image"]
    assert [text for text in texts if text in labels] == labels
    assert texts[-1] == "The end."  # a line of its own
    assert " ".join(texts).split() == " ".join([TITLE, *labels, CAPTION]).split()

    canvas = FigureCanvasAgg(figure)
    boxes = [text.get_window_extent(canvas.get_renderer()).extents for text in figure.texts]
    for grid in figure.images:
        left, right, bottom, top = grid.get_extent()
        boxes.append((left, bottom, right, top))
    wide, high = canvas.get_width_height()
    for left, bottom, right, top in boxes:
        assert left >= 8 and bottom >= 4 and right <= wide - 4 and top <= high - 4
    for one, other in itertools.combinations(boxes, 2):
        beside = one[2] <= other[0] or other[2] <= one[0]
        assert beside or one[3] <= other[1] or other[3] <= one[1], "overlap"


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
def test_large_images_make_fewer_columns(width, columns):
    assert sheet_columns(width) == columns


REQUIRED = {"dataset": "faces", "padding": 0, "title": "Faces", "split_rule": "all by hash"}
EVENLY = "\nShown are images at even distances from the first to the last of each split."


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
                "broken_images": 1234,
                "source_matches_official": False,
            },
            "Faces: 8x6x3 (height x width x channels); crop: 148, size: 64, split: paper, "
            "category: none",
            "Split rule: all by hash" + EVENLY + "\nBroken images left out: 1,234"
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
    """Through a file, as the pipeline does it."""
    images = dict.fromkeys(store.SPLITS, noise(1, (8, 6, 3)))
    store.write(tmp_path / "faces.h5", images, {**REQUIRED, **attributes})
    with store.Store(tmp_path / "faces.h5") as faces:
        assert sheet_text(faces.attributes, faces.shape) == (title, caption)


RUN_SCRIPT = f"""
import runpy
from types import SimpleNamespace

job = SimpleNamespace(
    input=SimpleNamespace(data="faces.h5"), output=["results/dataset.png"], log=["dataset.log"]
)
runpy.run_path({str(SCRIPT)!r}, init_globals={{"snakemake": job}})
"""


def test_the_script_shows_every_split_from_end_to_end(tmp_path):
    shape = (64, 64, 3)
    counts = {"train": 50, "valid": 30, "test": 3}
    splits = {split: noise(count, shape, count) for split, count in counts.items()}
    store.write(tmp_path / "faces.h5", splits, {**REQUIRED, "crop": None, "size": None})
    subprocess.run([sys.executable, "-c", RUN_SCRIPT], cwd=tmp_path, check=True)
    picture = decoded(tmp_path / "results/dataset.png")
    for split, shown in (("train", 36), ("valid", 24), ("test", 3)):
        blocks = (enlarged(image, 2) for image in splits[split])
        found = [index for index, block in enumerate(blocks) if places(picture, block)]
        assert found == evenly_spaced(counts[split], shown)


@pytest.mark.parametrize("kind", ["comparison", "contact sheet"])
def test_the_same_arrays_give_the_same_file(tmp_path, kind):
    images = noise(3, (8, 8, 3))
    for path in (tmp_path / "a.png", tmp_path / "b.png"):
        if kind == "comparison":
            comparison({"training images": images / 127.5 - 1}, "Noise", path)
        else:
            contact_sheet({"train": (images, 9), "test": (images, 3)}, TITLE, CAPTION, 2, path)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
