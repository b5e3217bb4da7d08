"""Every image of every variant is in its row of the grids."""

import itertools

import h5py
import numpy as np
import pytest
from helpers.pictures import decoded, enlarged, noise, places
from matplotlib.backends.backend_agg import FigureCanvasAgg

from svae.figures.grids import Row, labelled_rows, sheet
from svae.report.draw_grids import draw

SHAPE = (16, 16, 3)
ROWS, STEPS, COUNT = 2, 4, 5


def content(seed):
    def images(*counts, stream):
        found = noise(int(np.prod(counts)), SHAPE, 10 * seed + stream)
        return found.reshape(*counts, *SHAPE)

    return {
        "originals": noise(COUNT, SHAPE, 999),
        "interpolated": noise(2 * ROWS, SHAPE, 999).reshape(ROWS, 2, *SHAPE),
        "reconstructions": images(COUNT, stream=1),
        "interpolations": images(ROWS, STEPS, stream=2),
        "samples": images(12, stream=3),
        "neighbours": images(3, stream=4),
    }


@pytest.mark.parametrize("names", [["one"], ["vanilla", "a_variant_of_a_long_long_name"]])
def test_grids(tmp_path, names):
    runs = [content(index + 1) for index in range(len(names))]
    paths = []
    for name, run in zip(names, runs, strict=True):
        paths.append(tmp_path / f"{name}.h5")
        with h5py.File(paths[-1], "w") as file:
            for key, images in run.items():
                file[key] = images
            file["neighbour_distances"] = np.arange(3.0)
            file.attrs["title"] = "Noise"
    targets = [tmp_path / f"{name}.png" for name in ("r", "i", "n")]
    samples = [tmp_path / f"samples_{name}.png" for name in names]
    draw(names, paths, *targets, samples)

    def rows_of(path, rows):
        """The top of each row of images, which are next to each other."""
        picture = decoded(path)
        scale = 9
        tops = []
        for row in rows:
            found = [place for image in row for place in places(picture, enlarged(image, scale))]
            assert len({top for top, _ in found}) == 1
            lefts = [left for _, left in found]
            assert np.all(np.diff(lefts) == scale * (SHAPE[1] + 1))
            tops.append(found[0][0])
        return tops

    tops = rows_of(targets[0], [runs[0]["originals"], *(run["reconstructions"] for run in runs)])
    assert tops == sorted(tops)
    tops = rows_of(targets[1], [steps for run in runs for steps in run["interpolations"]])
    assert tops == sorted(tops)
    pairs = [row for run in runs for row in (run["samples"][:3], run["neighbours"])]
    tops = rows_of(targets[2], pairs)
    assert tops == sorted(tops)
    for path, run in zip(samples, runs, strict=True):
        first, second = rows_of(path, [run["samples"][:8], run["samples"][8:]])
        assert first < second
    between = decoded(targets[1])
    width = 9 * SHAPE[1]
    for run in runs:
        for ends, steps in zip(run["interpolated"], run["interpolations"], strict=True):
            first, last = (places(between, enlarged(image, 9)) for image in ends)
            assert len(first) == len(last) == len(names)
            (left,), (right,) = ({x for _, x in found} for found in (first, last))
            ((top, inner),) = places(between, enlarged(steps[0], 9))
            ((_, outer),) = places(between, enlarged(steps[-1], 9))
            assert {top} <= {y for y, _ in first} == {y for y, _ in last}
            # Separated by far more than the gap between two steps.
            assert inner - (left + width) == right - (outer + width) == 36


def test_what_belongs_together_is_close():
    """A sample is nearer to its neighbour than to the next variant."""
    rows = [
        Row(str(index), noise(3, SHAPE, index), below) for index, below in enumerate([4, 36, 4, 36])
    ]
    figure = labelled_rows(rows, "Title")
    extents = [image.get_extent() for image in figure.images]
    gaps = [upper[2] - lower[3] for upper, lower in itertools.pairwise(extents)]
    assert gaps == [4, 36, 4]


LONG = "a_variant_of_a_name_of_30_letters"


@pytest.mark.parametrize("columns", [1, 11])
@pytest.mark.parametrize("side", [28, 64, 256])
@pytest.mark.parametrize("title", ["CIFAR-10: samples", "MNIST, 5,000 digits: samples of " + LONG])
def test_texts_are_complete_and_readable_at_the_width_of_a_page(side, columns, title):
    images = noise(columns, (side, side, 1))
    rows = [Row(LONG, images, ends_apart=columns > 2), Row("", images), Row("vanilla", images)]
    for figure in (labelled_rows(rows, title), sheet(images, title, columns)):
        canvas = FigureCanvasAgg(figure)
        wide, high = canvas.get_width_height()
        renderer = canvas.get_renderer()
        texts = [text for text in figure.texts if text.get_text()]
        boxes = [text.get_window_extent(renderer).extents for text in texts]
        for text in texts:
            assert text.get_fontsize() * 200 / 72 * min(1, 700 / wide) > 9
        for grid in figure.images:
            left, right, bottom, top = grid.get_extent()
            boxes.append((left, bottom, right, top))
        for left, bottom, right, top in boxes:
            assert left >= 2 and bottom >= 2 and right <= wide - 2 and top <= high - 2
        for one, other in itertools.combinations(boxes, 2):
            apart = one[2] <= other[0] or other[2] <= one[0]
            assert apart or one[3] <= other[1] or other[3] <= one[1], "overlap"
