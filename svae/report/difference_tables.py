"""Differences between variants, measure by measure: tables, and rows of paired_differences.csv."""

from collections.abc import Iterator
from typing import Any

from svae.report.intervals import Comparison
from svae.report.numbers import (
    LOWER,
    PAIRED_ERROR,
    PAIRED_MEAN,
    SEED_ERROR,
    UPPER,
    Code,
    Piece,
    Pieces,
    Source,
    computed,
    number,
    table,
)
from svae.report.study import Study
from svae.scores.image_measures import ImageMeasure, image_measures
from svae.scores.registry import scores

Table = dict[str, Any]


def difference(study: Study, measure: ImageMeasure, first: str, second: str, form: str) -> Pieces:
    """Mean difference first - second, and its standard error over test images."""
    sources = study.per_image(measure, first, second)
    return [
        number(PAIRED_MEAN, sources, form),
        " ± ",
        number(PAIRED_ERROR, sources, form.strip("+")),
    ]


def tables(study: Study) -> list[Table]:
    """A table for each measure that the tables of scores show, if there is anything to compare."""
    return [
        _table(study, measure)
        for measure in image_measures().values()
        if measure.column.shown and study.differences(measure)
    ]


def reading(study: Study) -> str:
    """How the tables of differences are to be read."""
    if study.comparisons is None:
        asked = "every variant is compared with the first one, by J with the first one of its w"
    else:
        asked = ", ".join(f"{first} less {second}" for first, second in study.comparisons)
    text = (
        f"As set beforehand (comparisons in the configuration): {asked}. A difference is taken "
        "image by image, so what both variants share cancels. J is compared at equal w only. "
    )
    if not study.several:
        return text + (
            "Nothing is established: with one seed it is not known how far another training would "
            "move a difference. The standard errors cover the choice of test images only."
        )
    return text + (
        "Established: 0 lies outside the interval that decides. Its variance is that over seeds, "
        "each variant's own with a little of that pooled over all variants, plus that over test "
        "images; its level is that of Holm's procedure at 95 % for all comparisons of the table "
        "together. It holds for this data set and these settings."
    )


def _table(study: Study, measure: ImageMeasure) -> Table:
    columns = ["pair", "difference ± s.e. over test images"]
    columns += ["s.e. over seeds", "interval that decides"] if study.several else []
    columns += ["established"]
    form = measure.column.format
    rows: list[list[Pieces]] = []
    for found in study.differences(measure):
        pair = found.first, found.second
        row: list[Pieces] = [[Code(found.first), " less ", Code(found.second)]]
        row.append(difference(study, measure, *pair, f"+{form}"))
        if study.several:
            row.append([_seed_error(study, measure, found, form)])
            low, high = _ends(study, measure, found, f"+{form}")
            row.append([low, " to ", high])
        row.append(["yes" if found.established else "not yet"])
        rows.append(row)
    better = {True: "; higher is better", False: "; lower is better", None: ""}
    title = scores()[measure.score].title
    caption = f"{title}: {measure.label}{better[measure.column.higher_is_better]}"
    return table(caption, columns, rows)


def rows(study: Study) -> Iterator[dict[str, Any]]:
    """A row per measure and comparison asked for that is comparable by it."""
    for measure in image_measures().values():
        for found in study.differences(measure):
            sources = study.per_image(measure, found.first, found.second)
            low, high = _ends(study, measure, found, ".6g")
            yield {
                "measure": measure.name,
                "unit": measure.column.unit,
                "variant": found.first,
                "less": found.second,
                "difference": number(PAIRED_MEAN, sources, ".6g"),
                "standard_error_over_images": number(PAIRED_ERROR, sources, ".6g"),
                "standard_error_over_seeds": _seed_error(study, measure, found, ".6g"),
                "standard_error": found.standard_error,
                "degrees_of_freedom": found.degrees_of_freedom,
                "p": found.p,
                "p_holm": found.p_holm,
                "lower": low,
                "upper": high,
                "established": found.established,
            }


def _seed_error(study: Study, measure: ImageMeasure, found: Comparison, form: str) -> Piece:
    return computed(SEED_ERROR, found.error_over_seeds, _all(study, measure), form)


def _ends(study: Study, measure: ImageMeasure, found: Comparison, form: str) -> tuple[Piece, Piece]:
    low, high = found.deciding_interval or (None, None)
    sources = _all(study, measure)
    return computed(LOWER, low, sources, form), computed(UPPER, high, sources, form)


def _all(study: Study, measure: ImageMeasure) -> list[Source]:
    return study.per_image(measure, *study.pooled(measure))
