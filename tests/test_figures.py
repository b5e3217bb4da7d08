"""The figures show each image in its place, unchanged, and all texts complete."""

import itertools

import numpy as np
import pytest
from helpers.pictures import decoded, enlarged, noise, places
from matplotlib.backends.backend_agg import FigureCanvasAgg

from svae.figures.curves import Panel, training_curves
from svae.figures.grids import Row, contact_sheet, labelled_rows
from svae.report.png import save

# Shape of an image, and the factor by which the figure enlarges its pixels.
SHEETS = [((28, 28, 1), 5), ((64, 64, 3), 2), ((218, 178, 3), 1), ((256, 256, 3), 1)]
TITLE = "CelebA: 64x64x3 (height x width x channels); crop: 148, size: 64, split: paper"
CAPTION = "Split rule: " + 12 * "the first and some more of the images train, " + "\nThe end."


def place(picture, block):
    """The only place at which the picture contains exactly this block."""
    (only,) = places(picture, block)
    return only


DETAILS = ["seed 2", "w = 21.3, rate 9.8 nats"]


@pytest.mark.parametrize("columns", [1, 10])
@pytest.mark.parametrize(("shape", "scale"), [*SHEETS[:2], ((32, 32, 3), 5)])
def test_labelled_rows_show_every_image_where_it_belongs(tmp_path, shape, scale, columns):
    """Rows in their order, images next to each other, one of their own pixels apart, or 5."""
    counts = [columns, max(1, columns - 1), columns]  # a shorter row leaves its end white
    levels = [noise(count, shape, seed) for seed, count in enumerate(counts)]
    rows = [
        Row("training images", levels[0]),
        Row("vanilla", levels[1], details=DETAILS),
        Row("a_rather_long_name_of_a_variant", levels[2], details=DETAILS[:1]),
    ]
    figure = labelled_rows(rows, "Noise: samples of each variant", CAPTION)
    save(figure, tmp_path / "figure.png")
    picture = decoded(tmp_path / "figure.png")
    gap = max(scale, 5)
    height, step = scale * shape[0], scale * shape[1] + gap
    tops = []
    for row in levels:
        found = [place(picture, enlarged(image, scale)) for image in row]
        top, left = found[0]
        assert found == [(top, left + step * column) for column in range(len(row))]
        label = picture[top : top + height, :left]
        assert label.min() < 100  # there is one,
        assert label[:, :4].min() > 250 and label[:, -4:].min() > 250  # whole
        end = left + step * len(row) - gap
        assert (picture[top : top + height, end:] == 255).all()
        tops.append(top)
    assert all(after - before >= height + 8 for before, after in itertools.pairwise(tops))


@pytest.mark.parametrize("columns", [1, 10, 30])
@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3), (20, 60, 3)])
@pytest.mark.parametrize("caption", [CAPTION, "One_long_word_" * 9, ""], ids=["text", "word", ""])
def test_the_texts_of_labelled_rows_are_complete_and_do_not_overlap(shape, columns, caption):
    images = noise(columns, shape)
    rows = [
        Row("training images", images),
        Row("vanilla_matched", images, below=5, details=DETAILS),
        Row("", images, below=5, details=DETAILS),
        Row("mvn", images, details=DETAILS[1:]),
    ]
    figure = labelled_rows(rows, TITLE, caption)
    texts = [text.get_text() for text in figure.texts]
    labels = ["training images", "vanilla_matched", *DETAILS, *DETAILS, "mvn", DETAILS[1]]
    assert texts[: 1 + len(labels)] == [TITLE, *labels]
    lines = texts[1 + len(labels) :]
    assert " ".join(lines).split() == caption.split()
    boxes = boxes_inside(figure)
    assert_apart(boxes)
    label_boxes, line_boxes = np.split(np.array(boxes)[1 : len(texts)], [len(labels)])
    pictures = np.array(boxes)[len(texts) :]
    # Labels are right-aligned, left of all images; the longest one starts at the margin.
    ends = label_boxes[:, 2]
    assert np.ptp(ends) <= 3 and pictures[:, 0].min() - ends.max() >= 8
    margin = pictures[:, 0].min() - ends.max()
    assert label_boxes[:, 0].min() <= 1.06 * margin + 0.04 * ends.max()
    # Every row has its label at its middle, and small gaps stay small if the labels allow it.
    middles = (pictures[:, 1] + pictures[:, 3]) / 2
    for middle, own in zip(middles, ([0], [1, 2, 3], [4, 5], [6, 7]), strict=True):
        label = (label_boxes[own, 1].min() + label_boxes[own, 3].max()) / 2
        assert abs(label - middle) <= 0.3 * figure.texts[0].get_fontsize() * 200 / 72
    if len(line_boxes):
        assert line_boxes[:, 3].max() < pictures[:, 1].min()


def test_a_caption_does_not_break_at_no_break_spaces(tmp_path):
    caption = "the objective SSE\xa0+\xa0w\xa0KL " * 9
    figure = labelled_rows([Row("rows", noise(1, (28, 28, 1)))], "Title", caption)
    lines = [text.get_text() for text in figure.texts[2:]]
    assert len(lines) > 3
    assert sum(line.count("SSE\xa0+\xa0w\xa0KL") for line in lines) == 9


@pytest.mark.parametrize(("shape", "scale"), SHEETS)
def test_a_contact_sheet_shows_every_image_unchanged(tmp_path, shape, scale):
    columns = 5
    shown = {"train": noise(12, shape, 0), "valid": noise(5, shape, 1), "test": noise(2, shape, 2)}
    splits = {split: (images, 1000 * len(images)) for split, images in shown.items()}
    save(contact_sheet(splits, TITLE, CAPTION, columns), tmp_path / "sheet.png")
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
def test_the_texts_of_a_contact_sheet_are_complete(shape, columns):
    splits = {
        "train": (noise(columns + 1, shape), 162_770),
        "valid": (noise(2, shape), 2),
        "test": (noise(1, shape), 1),
    }
    figure = contact_sheet(splits, TITLE, CAPTION, columns)
    texts = [text.get_text() for text in figure.texts]
    labels = ["train: 162,770 images", "valid: 2 images", "test: 1 image"]
    assert [text for text in texts if text in labels] == labels
    assert texts[-1] == "The end."  # a line of its own
    assert " ".join(texts).split() == " ".join([TITLE, *labels, CAPTION]).split()

    assert_apart(boxes_inside(figure))


def boxes_inside(figure):
    """(left, bottom, right, top) of every text, then of every block of images, in pixels; all
    inside the figure."""
    canvas = FigureCanvasAgg(figure)
    boxes = [text.get_window_extent(canvas.get_renderer()).extents for text in figure.texts]
    for grid in figure.images:
        left, right, bottom, top = grid.get_extent()
        boxes.append((left, bottom, right, top))
    wide, high = canvas.get_width_height()
    for left, bottom, right, top in boxes:
        assert left >= 8 and bottom >= 4 and right <= wide - 4 and top <= high - 4
    return boxes


def assert_apart(boxes):
    for one, other in itertools.combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0]
        assert apart or one[3] <= other[1] or other[3] <= one[1], "overlap"


def curves(epochs, scale=1.0, kinds=("training", "validation")):
    """One value per epoch, which falls from `scale` towards 0; a little lower in validation."""
    return {kind: [scale * (1 - i / 10) / e for e in epochs] for i, kind in enumerate(kinds)}


def panels_of(lengths, spread=1.0):
    """Panels for runs of these numbers of epochs; those with odd index have another objective."""
    runs = {f"{'long_' * i}variant_{i}": range(1, n + 1) for i, n in enumerate(lengths)}
    parts = [dict(list(runs.items())[i::2]) for i in range(2)]
    objectives = {
        f"objective {i}\n(unit {i})": Panel(
            {
                name: curves(epochs, 300 * spread**i)
                for i, (name, epochs) in enumerate(part.items())
            },
            wide=True,
        )
        for i, part in enumerate(parts)
        if part
    }
    maps = {name: {"validation": [min(e, 64) for e in epochs]} for name, epochs in runs.items()}
    return objectives | {
        "MSE per pixel": Panel({name: curves(epochs, 0.3) for name, epochs in runs.items()}),
        "KL (nats)": Panel(
            {name: curves(epochs, 30) for name, epochs in runs.items()}, False, True
        ),
        "active maps": Panel(maps, False, True),
        "learning rate": Panel(
            {name: curves(epochs, 1e-3, ["training"]) for name, epochs in runs.items()}, False, True
        ),
    }


LENGTHS = [[1], [3], [1, 1], [40, 40], [40, 23, 3, 1, 40], [8] * 14, [2000, 2000]]


def shown(figure):
    return [axes for axes in figure.axes if axes.lines]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_curves_show_every_value_of_every_variant(lengths):
    """Once, in the panel of its axis; each variant with its own colour and marker, and in grey too
    with its own marker; a run of one epoch is a marker."""
    panels = panels_of(lengths)
    figure = training_curves(panels, {}, "Title")
    variants = list(panels["KL (nats)"].curves)
    styles = {}
    for axes, (label, panel) in zip(shown(figure), panels.items(), strict=True):
        assert axes.get_ylabel() == label and axes.get_xlabel().startswith("epoch")
        lines = iter(axes.lines)
        for variant, kinds in panel.curves.items():
            for kind, values in kinds.items():
                line = next(lines)
                np.testing.assert_array_equal(line.get_xdata(), range(1, len(values) + 1))
                np.testing.assert_array_equal(line.get_ydata(), values)
                assert (line.get_linestyle() == "-") == (kind == "validation")
                hollow = line.get_markerfacecolor() != line.get_color()
                assert hollow == (kind == "training")
                assert styles.setdefault(variant, line.get_color() + line.get_marker()) == (
                    line.get_color() + line.get_marker()
                )
                start, every = line.get_markevery()
                assert 1 <= len(values[start::every]) <= 12
        assert not list(lines)
        low, high = axes.get_xlim()
        assert 0 < low < 1 and max(lengths) < high
        assert all(tick == round(tick) for tick in axes.get_xticks())
    assert len(set(styles.values())) == len(variants)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *variants,
        "training",
        "validation",
    ]
    for variant, line in zip(variants, legend.get_lines(), strict=False):
        assert styles[variant] == line.get_color() + line.get_marker()


@pytest.mark.parametrize(
    ("curve", "cut"),
    [
        ([900, 400, 380, 370], True),
        ([-900, -400, -380, -370], True),
        ([9000, 400, 380, 370, 365, 360], True),
        ([405, 400, 380, 370], False),
        ([390, 400, 380, 370], False),
        ([900, 400], True),
        ([900], False),
    ],
)
def test_the_first_epoch_does_not_compress_the_others(curve, cut):
    others = {"training": [405.0, 395.0], "validation": curve[:1]} if len(curve) == 1 else {}
    panel = Panel({"a": {"training": curve}, **({"b": others} if others else {})})
    (axes,) = shown(training_curves({"SSE": panel}, {}, "Title"))
    low, high = sorted(axes.get_ylim())
    assert (not low <= curve[0] <= high) == cut
    assert all(low < value < high for value in curve[1:])
    assert ("cut off" in axes.get_xlabel()) == cut
    if cut:
        assert max(curve[1:]) - min(curve[1:]) > 0.8 * (high - low) or len(curve) == 2
        assert all(line.get_clip_on() for line in axes.lines)


def test_curves_that_are_equal_show_all_their_markers():
    panel = Panel({name: curves(range(1, 41)) for name in "abcd"})
    figure = training_curves({"rate": panel}, {}, "Title")
    (axes,) = shown(figure)
    places = [line.get_markevery() for line in axes.lines]
    marked = [tuple(range(40)[start::every]) for start, every in places]
    assert len(set(marked)) == 4 and len(set().union(*marked)) == sum(map(len, set(marked)))


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_the_texts_of_the_curves_are_complete_and_do_not_overlap(lengths):
    names = {name for panel in panels_of(lengths).values() for name in panel.curves}
    figure = training_curves(
        panels_of(lengths, spread=30), dict.fromkeys(names, 1), "A title of the curves"
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [figure._suptitle, *figure.legends[0].get_texts()]
    for axes in shown(figure):
        texts += [axes.xaxis.label, axes.yaxis.label]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            assert len(ticks) >= 1
            texts += [tick.label1 for tick in ticks]
    boxes = [text.get_window_extent(canvas.get_renderer()).extents for text in texts]
    wide, high = canvas.get_width_height()
    for left, bottom, right, top in boxes:
        assert left >= 2 and bottom >= 2 and right <= wide - 2 and top <= high - 2
    assert_apart(boxes)
    for axes, label in itertools.product(shown(figure), figure.legends[0].get_texts()):
        assert axes.bbox.y0 > label.get_window_extent(canvas.get_renderer()).y1


@pytest.mark.parametrize(("spread", "scale"), [(1.0, "linear"), (100.0, "log")])
def test_values_of_very_different_size_get_a_logarithmic_axis(spread, scale):
    panels = panels_of([3, 3, 3], spread)
    assert shown(training_curves(panels, {}, "Title"))[0].get_yscale() == scale
    for panel in panels.values():
        panel.wide = False
    assert shown(training_curves(panels, {}, "Title"))[0].get_yscale() == "linear"


def test_the_epoch_of_the_weights_is_ringed():
    panels = panels_of([9, 5])
    figure = training_curves(panels, {"long_variant_1": 4}, "Title")
    rings = {
        axes.get_ylabel(): (line.get_xdata()[0], line.get_ydata()[0])
        for axes in shown(figure)
        for line in axes.lines
        if len(line.get_xdata()) == 1
    }
    label = "objective 1\n(unit 1)"
    expected = panels[label].curves["long_variant_1"]["validation"][3]
    assert rings == {label: (4, expected)}
    assert figure.legends[0].get_texts()[-1].get_text() == "weights used"


@pytest.mark.parametrize("kind", ["labelled rows", "contact sheet", "training curves"])
def test_the_same_arrays_give_the_same_file(tmp_path, kind):
    images = noise(3, (8, 8, 3))
    for path in (tmp_path / "a.png", tmp_path / "b.png"):
        if kind == "labelled rows":
            figure = labelled_rows([Row("noise", images, details=DETAILS)], "Noise", CAPTION)
        elif kind == "training curves":
            figure = training_curves(panels_of([3, 5]), {"variant_0": 2}, "Title")
        else:
            splits = {"train": (images, 9), "test": (images, 3)}
            figure = contact_sheet(splits, TITLE, CAPTION, 2)
        save(figure, path)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
