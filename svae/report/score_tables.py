"""What tables, page and summary.csv show of any score, as its columns declare it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from string import Formatter
from typing import Any

from svae.report.numbers import (
    NOTHING,
    SPREAD,
    STANDARD_ERROR,
    Code,
    Document,
    Piece,
    Pieces,
    Source,
    largest,
    mean,
    number,
    over_images,
    over_seeds,
    table,
    value,
)
from svae.report.study import Study
from svae.scores.image_measures import ImageMeasure
from svae.scores.registry import scores
from svae.scores.score import Column, Score, with_suffix

Table = dict[str, Any]


def column_of(score: str, key: str) -> Column:
    return next(column for column in scores()[score].columns if column.key == key)


def score_table(study: Study, score: Score) -> Table | None:
    """One row per variant, and below them the stand-ins for samples, without the columns that no
    run has; None if no column is left."""
    columns = list(_columns(study, score))
    if not columns:
        return None
    nothing: Pieces = [NOTHING]
    rows: list[list[Pieces]] = []
    for name in study.variants:
        files = study.scores(name, score.name)
        if any(file.get("refused") for file in files):
            cells: list[Pieces] = [["refused, see below"], *([nothing] * (len(columns) - 1))]
        else:
            cells = [cell(column, files, _values(study, score, column, name)) for column in columns]
        rows.append([[Code(name)], *cells])
    headings = [heading(column, study) for column in columns]
    rows += _stand_ins(study, score, columns)
    return table(score.title, ["variant", *headings], rows)


def _stand_ins(study: Study, score: Score, columns: Sequence[Column]) -> Iterator[list[Pieces]]:
    """The rows of `stand_ins`; those that all runs share are taken of the first run."""
    seen = set()
    for variant in study.variants:
        files = study.scores(variant, score.name)
        for index, row in enumerate(files[0].get("stand_ins") or []):
            if row["name"] not in seen:
                seen.add(row["name"])
                of = files if row.get("of_run") else files[:1]
                within = [_within(column, f"stand_ins.{index}", study) for column in columns]
                yield [[row["name"]], *(cell(column, of) for column in within)]


def _within(column: Column, place: str, study: Study) -> Column:
    """The column of what lies at a place in the file, with an error only where the others have
    one."""
    error = None if column.error is None or study.several else f"{place}.{column.error}"
    return replace(column, key=f"{place}.{column.key}", error=error)


def heading(column: Column, study: Study) -> str:
    has_error = column.error and (column.per_image or not study.several)
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.label}{' ± s.e.' if has_error else ''}{unit}"


def cell(column: Column, files: Sequence[Document], per_image: Sequence[Source] = ()) -> Pieces:
    """The number of one variant with its standard error over test images and, with several seeds,
    their spread. per_image: every seed's values of the test images, from which the error of several
    seeds follows."""
    if column.median:
        pieces = over_images(files, column.key, column.format, column.median, column.largest)
    else:
        pieces = over_seeds(files, column.key, column.format)
    if pieces == [NOTHING]:
        return pieces
    if column.error and len(files) == 1:
        pieces[1:1] = [" ± ", value(files[0], column.error, column.format)]
    elif column.error and per_image:
        pieces[1:1] = [" ± ", number(STANDARD_ERROR, per_image, column.format)]
    if column.of:
        pieces += [" of ", mean(files, column.of, column.format)]
    if column.mark and any(file.get(column.mark[0]) for file in files):
        pieces += [f" {column.mark[1]}"]
    return pieces


def _values(study: Study, score: Score, column: Column, variant: str) -> list[Source]:
    if column.per_image is None:
        return []
    return study.per_image(ImageMeasure(score.name, column), variant)


def in_csv(study: Study, variant: str) -> dict[str, Piece | bool | None]:
    """The entries of all scores in a row of summary.csv. Numbers that have values for single images
    also have their spread over the seeds."""
    row: dict[str, Piece | bool | None] = {}
    for score in study.measured():
        files = study.scores(variant, score.name)
        for column in score.columns:
            if column.csv:
                row[column.csv] = _entry(column, files)
            if column.error and column.error_csv:
                values = _values(study, score, column, variant)
                row[column.error_csv] = (
                    number(STANDARD_ERROR, values, ".6g")
                    if values
                    else mean(files, column.error, ".6g")
                )
            if column.csv and column.per_image:
                row[with_suffix(column.csv, "spread_over_seeds")] = _spread(column, files)
    return row


def _spread(column: Column, files: Sequence[Document]) -> Piece | None:
    if len(files) == 1:
        return None
    return number(SPREAD, [file.source(column.key) for file in files], ".6g")


def method(study: Study, score: Score) -> Pieces:
    """How the score was measured, with the numbers of the first run that has the score."""
    measured = [
        run.scores[score.name]
        for run in study.everything()
        if not run.scores[score.name].get("refused")
    ]
    pieces: Pieces = []
    for text, key, *_ in Formatter().parse(score.method) if measured else ():
        pieces.append(text)
        if key:
            entry = measured[0].get(key)
            pieces.append(entry if isinstance(entry, str) else value(measured[0], key, ","))
    return pieces


def refusals(study: Study, score: Score) -> list[tuple[list[str], str]]:
    """The variants whose score could not be measured, by reason."""
    found: dict[str, dict[str, None]] = {}
    for name in study.variants:
        for file in study.scores(name, score.name):
            if reason := file.get("refused"):
                found.setdefault(reason.rstrip("."), {})[name] = None
    return [(list(names), reason) for reason, names in found.items()]


def reading(score: Score) -> list[tuple[str, str]]:
    """The columns of the tables, and how to read each."""
    better = {True: " Higher is better.", False: " Lower is better.", None: ""}
    return [
        (column.label.replace(" {}", " ..."), column.meaning + better[column.higher_is_better])
        for column in score.columns
        if column.shown
    ]


def _columns(study: Study, score: Score) -> Iterator[Column]:
    """The shown columns; a list of numbers gives one column per entry."""
    files = [run.scores[score.name] for run in study.everything()]
    for column in score.columns:
        if not column.shown:
            continue
        for single in _single(column, files):
            if any(file.get(single.key) is not None for file in files):
                yield single


def _single(column: Column, files: Sequence[Document]) -> list[Column]:
    if column.each is None:
        return [column]
    names: list[str] = next((file.get(column.each) for file in files if file.get(column.each)), [])
    if len(names) < 2:  # then it says what the mean says
        return []
    return [column.entry(index, name) for index, name in enumerate(names)]


def _entry(column: Column, files: Sequence[Document]) -> Piece | bool | None:
    if column.over_seeds == "any":
        return any(file.get(column.key) for file in files)
    if column.over_seeds == "first":
        return files[0].get(column.key)
    over = largest if column.over_seeds == "largest" else mean
    return over(files, column.key, ".6g")
