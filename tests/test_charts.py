"""The charts show the values in the files, with all texts complete, for any variants and seeds."""

import itertools
import json

import matplotlib.image
import numpy as np
import pytest
import scipy.stats
from helpers.reports import PLOTS, VARIANTS, make_arguments
from matplotlib.backends.backend_agg import FigureCanvasAgg

from svae.figures.differences import Difference, paired_differences
from svae.figures.kl_per_map import kl_per_map
from svae.figures.rate_distortion import Dot, Group, rate_distortion
from svae.figures.score_against_kl_weight import Scored, score_against_kl_weight, spread
from svae.figures.sigma_curves import SigmaChoice, sigma_curves
from svae.figures.style import MARKERS
from svae.jobs.files import read_json
from svae.report import draw_charts
from svae.report.intervals import compare
from svae.report.study import read

CHARTS = {
    "sigma_curves": sigma_curves,
    "paired_differences": paired_differences,
    "score_against_kl_weight": score_against_kl_weight,
    "kl_per_map": kl_per_map,
}
assert tuple(CHARTS) == PLOTS
MEASURE = ("J, test images",)

LONG = [f"variant_{index:02d}_with_a_long_name_wm" for index in range(14)]
assert {len(name) for name in LONG} == {30}
NAMES = {1: LONG[:1], 2: LONG[:2], 5: VARIANTS, 14: LONG}
SHAPES = list(itertools.product(NAMES, (1, 3)))
SOME = [(1, 1), (2, 3), (5, 1), (14, 3)]
SIGMAS = np.logspace(-1, 0, 10).tolist()
OUTLIER = "Gaussian"


def made_up(count, seeds, maps=64, edge=False, refined=False):
    """The arguments of each chart except title and target, for runs that all differ."""
    rng = np.random.default_rng(count + seeds)
    choices, runs, kl, scores = {}, {}, {}, {}
    shared = rng.normal(0, 300, 200)
    for index, name in enumerate(NAMES[count]):
        choices[name], runs[name], kl[name] = [], [], []
        scores[name] = shared + rng.normal(20 * np.sin(index), 60, (seeds, 200)) - 3000
        for mean in scores[name].mean(axis=1):
            width = 0.3 + 0.02 * np.cos(index)
            logs = np.log(width / np.array(SIGMAS))
            values = mean - 6000 * (np.exp(2 * logs) - 1 - 2 * logs)
            best = SIGMAS[int(np.argmax(values))]
            chosen = width if refined else best
            height = mean if refined else values.max()
            at_edge = edge and index == 0
            choices[name].append(SigmaChoice(SIGMAS, values.tolist(), chosen, height, at_edge))
            weight = 20.0 if index else 180.0
            linear = -3100 - weight + rng.normal()
            runs[name].append(Scored(weight, float(mean), 21.0, float(linear)))
            kl[name].append(rng.permutation(8 * np.exp(-np.arange(maps) * (4 + index) / maps)))
    rows = {
        "training images": -3050.0,
        "k-means centroids": -2990.0,
        "blurred training images": -2991.0,
        OUTLIER: -40_000.0,
    }
    return {
        "sigma_curves": (choices,),
        "paired_differences": (differences_of(scores), *MEASURE),
        "score_against_kl_weight": (runs, rows),
        "kl_per_map": (kl,),
    }


def differences_of(scores):
    """The second of every two variants established; all pairs, so that there may be many."""
    found = []
    for index, (first, second) in enumerate(itertools.combinations(scores, 2)):
        each = (scores[first] - scores[second]).mean(axis=1)
        mean, width = each.mean(), 3 + abs(np.sin(index))
        ends = (mean - width, mean + 2 * width)  # unequal, to distinguish the sides
        found.append(Difference(first, second, mean, ends, each.tolist(), index % 2 == 1))
    return found


def figure_of(chart, arguments):
    return CHARTS[chart](*arguments, "waves: a title of usual length (seeds 0, 1)")


def lines_of(figure, count=None):
    (axes,) = figure.axes
    return axes.lines[:count]


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def assert_whole_and_apart(figure):
    """All texts are within the figure, none overlap, and only the axes' labels are on the axes."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    texts = [figure._suptitle, *figure.texts]
    texts = list(dict.fromkeys(texts))
    for legend in figure.legends:
        texts += legend.get_texts()
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(limits)
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            assert ticks
            texts += [label for tick in ticks for label in (tick.label1, tick.label2)]
    texts = [text for text in texts if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent(canvas.get_renderer()).extents for text in texts]
    wide, high = canvas.get_width_height()
    assert wide == 2000
    for left, bottom, right, top in boxes:
        assert left >= 2 and bottom >= 2 and right <= wide - 2 and top <= high - 2
    boxes += [axes.bbox.extents for axes in figure.axes]
    for one, other in itertools.combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0]
        assert apart or one[3] <= other[1] or other[3] <= one[1], "overlap"
    for legend, axes in itertools.product(figure.legends, figure.axes):
        box = legend.get_window_extent(canvas.get_renderer())
        assert box.y1 < axes.bbox.y0 and box.x0 >= 0 and box.x1 <= wide
    for text in texts:
        assert 8 <= text.get_fontsize() <= 12


@pytest.mark.parametrize("chart", PLOTS)
@pytest.mark.parametrize(("count", "seeds"), SHAPES)
def test_texts_are_complete_and_do_not_overlap(chart, count, seeds):
    made = made_up(count, seeds, maps=576 if seeds == 1 else 64, edge=True, refined=seeds == 3)
    assert_whole_and_apart(figure_of(chart, made[chart]))


@pytest.mark.parametrize(("count", "seeds"), SOME)
def test_sigma_curves_show_every_value(count, seeds):
    (choices,) = made_up(count, seeds)["sigma_curves"]
    figure = figure_of("sigma_curves", [choices])
    lines = iter(lines_of(figure))
    styles = set()
    for each in choices.values():
        for index, choice in enumerate(each):
            curve, ring = next(lines), next(lines)
            np.testing.assert_array_equal(curve.get_xdata(), SIGMAS)
            np.testing.assert_array_equal(curve.get_ydata(), choice.log_likelihood)
            assert ring.get_xdata() == [choice.chosen]
            assert ring.get_ydata() == pytest.approx([max(choice.log_likelihood)])
            assert (curve.get_marker() == "none") == (index > 0)
            if not index:
                styles.add((curve.get_marker(), str(curve._dash_pattern), curve.get_color()))
    assert not list(lines) and len(styles) == count
    names = [*choices, "chosen sigma"]
    assert legend_of(figure) == (names if seeds == 1 else [*names[:-1], "further seeds", names[-1]])
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and "nats per image" in axes.get_ylabel()
    assert "pixels on [-1, 1]" in axes.get_xlabel()


def test_low_scores_do_not_compress_the_maxima():
    (choices,) = made_up(5, 1)["sigma_curves"]
    (axes,) = figure_of("sigma_curves", [choices]).axes
    values = [choice.log_likelihood for (choice,) in choices.values()]
    tops = [max(each) for each in values]
    low, high = axes.get_ylim()
    assert min(map(min, values)) < low < min(tops) and max(tops) < high
    assert max(tops) - min(tops) > 0.02 * (high - low)
    assert axes.get_xlabel().endswith("lower values are cut off")
    flat = {"a": [SigmaChoice(SIGMAS, np.linspace(-9, -8, 10).tolist(), 1.0, -8.0, True)]}
    (axes,) = figure_of("sigma_curves", [flat]).axes
    assert axes.get_ylim()[1] > -8


def test_a_sigma_between_those_of_the_grid_is_ringed_at_its_own_value():
    choice = SigmaChoice([0.1, 0.4, 1.6], [-8.0, -4.0, -6.0], 0.8, -3.5, False)
    figure = figure_of("sigma_curves", [{"a": [choice]}])
    curve, ring = lines_of(figure)
    assert (*ring.get_xdata(), *ring.get_ydata()) == (0.8, -3.5)
    assert [*zip(*curve.get_data(), strict=True)] == [(0.1, -8), (0.4, -4), (0.8, -3.5), (1.6, -6)]
    assert curve.get_markevery() == [0, 1, 3]  # marks are for the grid
    assert figure.axes[0].get_ylim()[1] > -3.5
    assert legend_of(figure)[-1] == "chosen sigma, refined within the grid"


@pytest.mark.parametrize("values", [[-5.0], [-5.0, -5.0]])
def test_a_sigma_at_the_edge_is_named(values):
    choice = SigmaChoice([0.3, 0.5][: len(values)], values, 0.3, -5.0, True)
    figure = figure_of("sigma_curves", [{"a": [choice], "b": [choice]}])
    assert legend_of(figure)[:2] == ["a (at the grid's edge)", "b (at the grid's edge)"]
    assert_whole_and_apart(figure)


def bars(container):
    """(low, high) of every error bar."""
    (_, _, (collection,)) = container
    return np.array(collection.get_segments())


NOT, YES = "not established", "established (interval excludes 0)"
DECIDES = "interval that decides (95 %, Holm)"


@pytest.mark.parametrize(("count", "seeds"), SOME[1:])
def test_paired_differences_have_a_row_for_each_comparison(count, seeds):
    differences, *rest = made_up(count, seeds)["paired_differences"]
    figure = figure_of("paired_differences", [differences, *rest])
    (axes,) = figure.axes
    for place, (each, container) in enumerate(zip(differences, axes.containers, strict=True)):
        (dot, _, _) = container
        assert (dot.get_xdata(), dot.get_ydata()) == ([each.mean], [place])
        np.testing.assert_allclose(bars(container)[0, :, 0], each.interval)
        # Filled or hollow, which needs no colours.
        assert (dot.get_markerfacecolor() == "white") == (not each.established)
    labels = [" ".join(label.get_text().split()) for label in axes.get_yticklabels()]
    assert labels == [f"{each.first} minus {each.second}" for each in differences]
    low, high = axes.get_ylim()
    assert low > high  # the first comparison at the top
    points = [line for line in axes.lines if line.get_marker() == "."]
    if seeds > 1:
        assert [list(line.get_xdata()) for line in points] == [each.by_seed for each in differences]
        for place, line in enumerate(points):
            assert all(0.1 < y - place < 0.4 for y in line.get_ydata())  # below their bar
        assert legend_of(figure) == [*([YES] if count > 2 else []), NOT, DECIDES, "each seed"]
    else:
        assert not points
        (label,) = legend_of(figure)
        assert "one standard error over test images" in label and "establishes nothing" in label
    assert axes.get_xlabel() == "difference of J, test images"
    pixels = axes.bbox.height / len(differences)
    assert pixels > 45  # two lines of a label at most, which the texts' test finds apart


def test_one_variant_is_compared_with_nothing():
    figure = figure_of("paired_differences", [[], *MEASURE])
    texts = [text.get_text() for text in figure.texts]
    words = "There is nothing to compare."
    assert words in texts and not figure.axes
    assert_whole_and_apart(figure)


def test_a_difference_that_is_not_finite_is_named():
    known = Difference("a", "b", 1.0, (0.5, 1.5), [0.9, 1.1], True)
    lost = Difference("a", "c", None, None, [np.nan, np.inf], False)
    (axes,) = figure_of("paired_differences", [[known, lost], *MEASURE]).axes
    assert len(axes.containers) == 1
    (text,) = axes.texts
    assert (text.get_text(), text.get_position()[1]) == ("a value is not finite", 1)


@pytest.mark.parametrize(("count", "seeds"), SOME)
def test_scores_are_drawn_at_their_weights(count, seeds):
    runs, rows = made_up(count, seeds)["score_against_kl_weight"]
    figure = figure_of("score_against_kl_weight", [runs, rows])
    (axes,) = figure.axes
    everything = [run for each in runs.values() for run in each]
    linear, *others = axes.lines
    points = sorted((run.weight, run.linear_log_likelihood) for run in everything)
    np.testing.assert_array_equal(linear.get_xydata(), points)
    assert len(axes.containers) == count
    for each, container in zip(runs.values(), axes.containers, strict=True):
        scores = [run.log_likelihood for run in each]
        error = scipy.stats.tstd(scores) if seeds > 1 else each[0].standard_error
        mean = np.mean(scores)
        np.testing.assert_allclose(container[0].get_xydata(), [(each[0].weight, mean)])
        np.testing.assert_allclose(bars(container)[0, :, 1], [mean - error, mean + error])
        hollow = [line for line in others if list(line.get_ydata()) == scores]
        if seeds > 1:
            assert list(hollow[0].get_xdata()) == [run.weight for run in each]
    low, high = axes.get_ylim()
    drawn = [*(bar for c in axes.containers for bar in bars(c)[0, :, 1]), *(y for _, y in points)]
    assert low < min(drawn) and max(drawn) < high
    assert ("side by side" in axes.get_xlabel()) == (count > 2)
    # Markers of one w are next to each other.
    figure.draw_without_rendering()
    places = []
    for container in axes.containers:
        point = container[0]
        places.append(point.get_transform().transform(point.get_xydata())[0, 0])
    assert all(abs(a - b) >= 24 for a, b in itertools.combinations(places, 2))


def test_sanity_rows_are_lines_or_arrows():
    runs, rows = made_up(5, 1)["score_against_kl_weight"]
    high_row = {"a high one": 12_345.6}
    figure = figure_of("score_against_kl_weight", [runs, rows | high_row])
    (axes,) = figure.axes
    texts = {text.get_text() for text in axes.texts}
    kept = {name: score for name, score in rows.items() if name != OUTLIER}
    assert texts == {*kept, "Gaussian: -40,000 \u2193", "a high one: 12,346 \u2191"}
    flat = [line.get_ydata() for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert sorted(np.ravel(flat)) == sorted(2 * list(kept.values()))
    assert_whole_and_apart(figure)
    without = figure_of("score_against_kl_weight", [runs, {}])
    assert not without.axes[0].texts
    assert_whole_and_apart(without)


@pytest.mark.parametrize("count", [1, 14])
def test_one_weight_for_all(count):
    runs = {name: [Scored(7.5, -3.0, 0.0, -3.0)] for name in NAMES[count]}
    figure = figure_of("score_against_kl_weight", [runs, {"training images": -3.0}])
    low, high = figure.axes[0].get_xlim()
    assert 0 < low < 7.5 < high
    assert_whole_and_apart(figure)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),
        ([0.5, 0.5, 0.5], [0.5, 0.6, 0.7]),
        ([0, 0, 1, 1], [0, 0.1, 0.9, 1]),
        ([0.95, 0.98, 1], [0.8, 0.9, 1]),
    ],
)
def test_spread(wanted, expected):
    assert spread(wanted, 0.1, 0, 1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "seeds", "maps"), [(1, 1, 64), (1, 3, 576), (2, 3, 1), (5, 1, 64), (14, 3, 576)]
)
def test_kl_is_ranked(count, seeds, maps):
    (kl,) = made_up(count, seeds, maps)["kl_per_map"]
    figure = figure_of("kl_per_map", [kl])
    (axes,) = figure.axes
    curves = [seed for each in kl.values() for seed in each]
    for line, values in zip(lines_of(figure), curves, strict=True):
        expected = [max(value, 1e-3) for value in sorted(values, reverse=True)]
        np.testing.assert_allclose(line.get_ydata(), expected)
        np.testing.assert_array_equal(line.get_xdata(), range(1, maps + 1))
        marked = line.get_markevery()
        if isinstance(marked, tuple):
            marked = range(*marked[:1], maps, marked[1])
        assert marked is None or (1 <= len(marked) <= 12 and max(marked) < maps)
    assert axes.get_yscale() == "log" and axes.get_xscale() == ("log" if maps > 100 else "linear")
    low, high = axes.get_ylim()
    assert low < max(1e-3, min(map(min, curves))) and max(map(max, curves)) < high
    assert ("drawn at 0.001" in axes.get_ylabel()) == (min(map(min, curves)) < 1e-3)


def test_latents_without_kl_are_drawn_at_the_floor():
    figure = figure_of("kl_per_map", [{"a": [np.zeros(9)], "b": [np.full(9, -1e-9)]}])
    assert all((line.get_ydata() == 1e-3).all() for line in lines_of(figure))
    assert_whole_and_apart(figure)


@pytest.fixture
def drawn(monkeypatch):
    """The arguments that each chart is called with."""
    calls = {}
    for chart in CHARTS:
        monkeypatch.setattr(
            draw_charts, chart, lambda *arguments, chart=chart: calls.update({chart: arguments})
        )
    monkeypatch.setattr(
        draw_charts, "save", lambda _, target: calls.setdefault("targets", []).append(target)
    )
    return calls


def study_of(files):
    return read("waves", files)


@pytest.mark.parametrize("seeds", [(0,), (0, 4, 7)], ids=str)
@pytest.mark.parametrize("objective", ["weighted", "elbo"])
def test_charts_get_the_values_in_the_files(tmp_path, drawn, objective, seeds):
    files = make_arguments(tmp_path, seeds=seeds, objective=objective)["files"]
    draw_charts.draw(study_of(files), PLOTS)
    assert drawn.pop("targets") == list(PLOTS) == list(drawn)
    words = f"({'seeds 0, 4, 7' if len(seeds) > 1 else 'seed 0'})"
    for *_, title in drawn.values():
        assert title.startswith("waves: ") and title.endswith(words)
    choices, runs, kl = (drawn[PLOTS[index]][0] for index in (0, 2, 3))
    per_image = {}
    for name, seed in itertools.product(VARIANTS, seeds):
        folder = tmp_path / f"runs/waves/{name}/seed-{seed}"
        record, score, linear = (
            json.loads((folder / f"{kind}.json").read_text())
            for kind in ("run", "scores/parzen", "scores/linear_vae")
        )
        index = seeds.index(seed)
        choice = choices[name][index]
        assert choice.sigmas == score["sigma_grid"]
        assert choice.log_likelihood == score["validation_log_likelihood"]
        assert (choice.chosen, choice.at_edge) == (score["sigma"], False)
        assert runs[name][index] == Scored(
            record["kl_weight"],
            score["log_likelihood"],
            score["standard_error"],
            linear["parzen"]["log_likelihood"],
        )
        assert kl[name][index] == record["test"]["kl_nats_per_map"]
        per_image[name, seed] = np.load(folder / "scores/objective_per_image.npz")["elbo"]
    assert all(list(by_name) == VARIANTS for by_name in (choices, runs, kl))
    rows = read_json(files.baselines)["rows"]
    assert drawn[PLOTS[2]][1] == {row["name"]: row["log_likelihood"] for row in rows}
    assert drawn[PLOTS[1]][1] == "ELBO, test images (nats)"
    pairs = [(name, VARIANTS[0]) for name in VARIANTS[1:]]
    scores = {name: np.stack([per_image[name, seed] for seed in seeds]) for name in VARIANTS}
    for shown, known, names in zip(drawn[PLOTS[1]][0], compare(scores), pairs, strict=True):
        assert (shown.first, shown.second) == names
        each = scores[names[0]] - scores[names[1]]
        assert shown.by_seed == pytest.approx(each.mean(axis=1))
        assert shown.mean == pytest.approx(each.mean())
        if len(seeds) > 1:
            assert shown.interval == known.deciding_interval
            low, high = shown.interval
            assert shown.established == known.established == (not low <= 0 <= high)
        else:
            error = scipy.stats.sem(each[0])
            assert shown.interval == pytest.approx((shown.mean - error, shown.mean + error))
            assert not shown.established


def test_a_score_that_is_not_finite_leaves_the_others(tmp_path, drawn):
    files = make_arguments(tmp_path, ["a", "b", "c"], (0, 1))["files"]
    path = files.per_image["objective"][2]  # b, seed 0
    np.savez(path, **{**np.load(path), "j": np.full(40, np.inf)})
    draw_charts.draw(study_of(files), PLOTS)
    lost, known = drawn["paired_differences"][0]
    assert (lost.first, lost.mean, lost.interval) == ("b", None, None)
    assert known.mean is not None and known.interval is not None


def test_the_title_says_which_images_chose_sigma(tmp_path, drawn):
    changes = {"parzen": {"protocol": "paper"}}
    draw_charts.draw(study_of(make_arguments(tmp_path, ["a", "b"], **changes)["files"]), PLOTS)
    assert "on blocks of test images (protocol paper)" in drawn["sigma_curves"][1]


@pytest.mark.parametrize(("names", "seeds"), [(["a"], (0,)), (["a", "b"], (0, 1))], ids=str)
def test_files_are_pictures_and_reproducible(tmp_path, names, seeds):
    files = make_arguments(tmp_path, names, seeds)["files"]
    contents = []
    for again in "ab":
        targets = [tmp_path / again / f"{chart}.png" for chart in PLOTS]
        draw_charts.draw(study_of(files), targets)
        contents.append([target.read_bytes() for target in targets])
    assert contents[0] == contents[1]
    for target in targets:
        assert matplotlib.image.imread(target).shape[1] == 2000


def test_long_names_take_two_lines():
    for names, lines in ((LONG[:2], 2), (["vanilla", "low_rank"], 1)):
        each = Difference(*names, 1.0, (0.5, 1.5), [1.0], False)
        (axes,) = figure_of("paired_differences", [[each], *MEASURE]).axes
        assert len(axes.get_yticklabels()[0].get_text().splitlines()) == lines


def made_up_rates(count, seeds, family):
    """The arguments of rate_distortion except the title; family: variants in the first group."""
    groups = {}
    for index, name in enumerate(NAMES[count]):
        variants = []
        for place in range(family if index == 0 else 1):
            rate, sse, ratio = 2.0 + 3 * index + 20 * place, 400 / (1 + index + place), 0.02 * index
            variants.append(
                [
                    Dot(5.0 + index, rate + 0.1 * seed, sse - seed, ratio + 0.001 * seed, 0.004)
                    for seed in range(seeds)
                ]
            )
        mean = (-0.0123, 0.0045) if len(variants) > 1 else (None, None)
        groups[name] = Group(variants, *mean)
    curves = {576: ([1, 9, 90], [500, 200, 20]), 64: ([1, 9, 90], [500, 210, 40])}
    return groups, curves, (2.2, 20.0) if family > 1 else None


@pytest.mark.parametrize(("count", "seeds"), SHAPES)
def test_texts_of_rate_distortion_are_complete_and_do_not_overlap(count, seeds):
    for family in (1, 4):
        assert_whole_and_apart(rate_distortion(*made_up_rates(count, seeds, family), "waves: x"))


@pytest.mark.parametrize("family", [1, 4])
@pytest.mark.parametrize(("count", "seeds"), SOME)
def test_rate_distortion_has_a_point_for_each_run(count, seeds, family):
    groups, curves, common = made_up_rates(count, seeds, family)
    figure = rate_distortion(groups, curves, common, "waves: x")
    left, right = figure.axes
    variants = [dots for group in groups.values() for dots in group.variants]
    points = [line for line in left.lines if line.get_marker() != "None"]
    for dots, line in zip(variants, points, strict=True):
        assert [tuple(xy) for xy in line.get_xydata()] == [(dot.rate, dot.sse) for dot in dots]
        assert (line.get_markerfacecolor() == "white") == (seeds > 1)
    drawn = [line for line in right.lines if line.get_marker() in MARKERS]
    for dots, line in zip(variants, drawn, strict=True):
        expected = [(dot.rate, dot.log_ratio) for dot in dots]
        assert [tuple(xy) for xy in line.get_xydata()] == expected
    assert {(line.get_marker(), line.get_color()) for line in points} == {
        (line.get_marker(), line.get_color()) for line in drawn
    }
    assert len({(line.get_marker(), line.get_color()) for line in points}) == len(groups)
    # The slope of each short line, in its middle, is -w.
    tangents = left.lines[len(curves) :: 2]
    for dots, line in zip(variants, tangents, strict=True):
        (x, y) = line.get_xydata().T
        assert np.diff(y) / np.diff(x) == pytest.approx(-dots[0].weight)
        rate, sse = np.mean([(dot.rate, dot.sse) for dot in dots], axis=0)
        assert np.interp(rate, x, y) == pytest.approx(sse)
    for (rates, sse), line in zip(curves.values(), left.lines, strict=False):
        assert (list(line.get_xdata()), list(line.get_ydata())) == (rates, sse)
    assert left.get_xlim() == right.get_xlim()
    assert left.get_xscale() == left.get_yscale() == right.get_xscale() == "log"
    labels = legend_of(figure)
    assert f"{NAMES[count][0]}{': mean -0.0123 +- 0.0045' * (family > 1)}" == labels[0]
    assert ("rates of the mean log ratio" in labels) == (family > 1)
    assert "linear VAE (PCA), 576 entries" in labels
    for bar in bars(right.containers[0]) if seeds == 1 else []:
        (dot,) = variants[0]
        assert np.ptp(bar[:, 1]) == pytest.approx(2 * dot.standard_error)
    assert bool(right.containers) == (seeds == 1)
    # The family's means are joined.
    joined = [line for line in right.lines if len(line.get_xdata()) == 4]
    assert len(joined) == (family > 1)


def test_rates_without_a_point():
    figure = rate_distortion({"a": Group([[]])}, {}, None, "waves: x")
    assert [text.get_text() for text in figure.texts][-1].startswith("No run has a finite SSE")
    assert_whole_and_apart(figure)
