"""The numbers of the report, each with the files and keys that it follows from, and how.

A number is shown rounded and carries its full value, its rule and its sources, so that readers can
trace it to the files by hand, and tests by machine.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from svae.jobs.files import read_json
from svae.report.intervals import Comparison, compare
from svae.training.spikes import DOMINATED

NOTHING = "-"  # instead of a number that does not exist


@dataclass(frozen=True, eq=False)
class Source:
    """One entry of a file: a number, or the scores of all test images, float64 (n_test,)."""

    file: str
    key: str
    value: Any

    def __str__(self) -> str:
        return f"{self.file}: {self.key}"


class Document:
    """A JSON file and its path. A key names an entry by the keys and list indices that lead to it,
    joined by points, as in `fresh_draws.log_likelihood.0`."""

    def __init__(self, file: str, content: Any):
        self.file, self.content = file, content

    @classmethod
    def read(cls, path: Path | str) -> "Document":
        return cls(Path(path).as_posix(), read_json(path))

    def get(self, key: str) -> Any:
        """The entry, or None if the file has none."""
        value = self.content
        for part in key.split("."):
            if isinstance(value, list):
                value = value[int(part)] if int(part) < len(value) else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return value

    def source(self, key: str) -> Source:
        return Source(self.file, key, self.get(key))


@dataclass(frozen=True)
class Rule:
    """How a number follows from its sources; `meaning` completes "the number is ...". A rule
    without a function belongs to numbers that are computed elsewhere."""

    name: str
    meaning: str
    function: Callable[[Sequence[Any]], float] | None = None


@dataclass(frozen=True)
class Number:
    """A number to show: its value, its text, the name of its rule, and its sources."""

    value: float
    text: str
    rule: str
    sources: tuple[Source, ...]

    @property
    def source(self) -> str:
        return "; ".join(map(str, self.sources))

    @property
    def origin(self) -> str:
        """The sources, after the rule unless the number is simply one of them."""
        return self.source if self.rule == VALUE.name else f"{self.rule} of {self.source}"


@dataclass(frozen=True)
class Code:
    """A name as it stands in files and commands, such as a variant's."""

    text: str


Piece = str | Number | Code
Pieces = list[Piece]


def joined(items: "Sequence[Pieces]", last: str = ", ") -> Pieces:
    """The items one after the other, with commas between and `last` before the last one."""
    pieces: Pieces = []
    for index, item in enumerate(items):
        if index:
            pieces.append(last if index == len(items) - 1 else ", ")
        pieces += item
    return pieces


def _compared(values: Sequence[np.ndarray]) -> Comparison:
    """Of the values of one variant, then of another, each float64 (n_seeds, n_images)."""
    middle = len(values) // 2
    halves = {"first": np.stack(values[:middle]), "second": np.stack(values[middle:])}
    return compare(halves, [("first", "second")])[0]


def _standard_error(values: Sequence[np.ndarray]) -> float:
    scores = np.mean(values, axis=0)
    return float(scores.std(ddof=1) / np.sqrt(len(scores)))


VALUE = Rule("value", "the entry itself", lambda values: values[0])
MEAN = Rule("mean", "the mean of the entries, one per seed", lambda values: float(np.mean(values)))
SPREAD = Rule(
    "spread",
    "the sample standard deviation of the entries, one per seed",
    lambda values: float(np.std(values, ddof=1)),
)
LARGEST = Rule("largest", "the largest of the entries, one per seed", max)
STANDARD_ERROR = Rule(
    "standard error",
    "the standard error over test images of the values averaged over seeds",
    _standard_error,
)
PAIRED_MEAN = Rule(
    "paired mean",
    "the mean over test images and seeds of the first variant's values less the second's",
    lambda values: _compared(values).difference or 0.0,
)
PAIRED_ERROR = Rule(
    "paired standard error",
    "its standard error over test images, of the differences averaged over seeds",
    lambda values: _compared(values).error_over_images or 0.0,
)
# What follows from the runs of all variants together, by svae.report.intervals.
SEED_ERROR = Rule(
    "error over seeds",
    "the standard error of the mean difference over seeds, each variant's variance shrunk towards "
    "that pooled over all variants",
)
LOWER = Rule("lower end", "the lower end of the interval by which Holm's procedure decides")
UPPER = Rule("upper end", "the upper end of that interval")


RULES = (
    VALUE,
    MEAN,
    SPREAD,
    LARGEST,
    STANDARD_ERROR,
    PAIRED_MEAN,
    PAIRED_ERROR,
    SEED_ERROR,
    LOWER,
    UPPER,
)


def number(rule: Rule, sources: Iterable[Source], form: str) -> Piece:
    """What the rule makes of the sources, shown as `form` says (a format specification); `-` where
    a source has nothing."""
    sources = tuple(sources)
    if any(source.value is None for source in sources):
        return NOTHING
    assert rule.function is not None
    return computed(rule, rule.function([source.value for source in sources]), sources, form)


def computed(rule: Rule, value: float | None, sources: Iterable[Source], form: str) -> Piece:
    """A value that follows from the sources by the rule; `-` for None."""
    if value is None:
        return NOTHING
    if form == "," and value != round(value):
        form = ",.1f"
    shown = int(value) if form == "," else value
    return Number(float(value), f"{shown:{form}}", rule.name, tuple(sources))


def value(document: Document, key: str, form: str) -> Piece:
    """One entry of one file."""
    return number(VALUE, [document.source(key)], form)


def mean(documents: Sequence[Document], key: str, form: str) -> Piece:
    """The entry of one seed, or the mean over several."""
    sources = [document.source(key) for document in documents]
    return number(VALUE if len(sources) == 1 else MEAN, sources, form)


def over_seeds(documents: Sequence[Document], key: str, form: str) -> Pieces:
    """The entry of one seed, or the mean of several, with their spread if they differ."""
    sources = [document.source(key) for document in documents]
    if len({source.value for source in sources}) == 1 or None in [s.value for s in sources]:
        return [mean(documents, key, form)]
    spread = number(SPREAD, sources, ",.1f" if form == "," else form)
    return [mean(documents, key, form), " (", spread, ")"]


def largest(documents: Sequence[Document], key: str, form: str) -> Piece:
    """The entry of one seed, or the largest of several."""
    sources = [document.source(key) for document in documents]
    return number(VALUE if len(sources) == 1 else LARGEST, sources, form)


def over_images(
    documents: Sequence[Document], key: str, form: str, median: str, most: str | None = None
) -> Pieces:
    """A mean over the test images, as in `over_seeds`. If a few images dominate it for any seed,
    the `median` follows and, if `most` is given, the largest value of an image."""
    if not _dominated(documents, key, median):
        return over_seeds(documents, key, form)
    if most is None:
        return [*over_seeds(documents, key, form), " (median ", mean(documents, median, form), ")"]
    return [
        *over_seeds(documents, key, ",.0f"),
        " (median ",
        mean(documents, median, ",.1f"),
        ", largest ",
        largest(documents, most, ",.0f"),
        ")",
    ]


def _dominated(documents: Sequence[Document], key: str, median: str) -> bool:
    pairs = [(document.get(key), document.get(median)) for document in documents]
    return any(None not in pair and pair[0] > DOMINATED * pair[1] for pair in pairs)


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Pieces]],
    prose: Iterable[int] = (),
) -> dict[str, Any]:
    """A table for the template. The first cell of a row names it; `prose`: columns of text."""
    return {
        "caption": caption,
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "prose": set(prose),
        "sources": source_lines(cell for row in rows for cell in row),
    }


def source_lines(cells: Iterable[Pieces]) -> list[tuple[str, str]]:
    """The file and keys of all numbers in the cells. Words stand in for variant, seed and index,
    since each number carries its own in full."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        for piece in cell:
            for source in piece.sources if isinstance(piece, Number) else ():
                file = re.sub(
                    r"[^/]+/seed-\d+/(?=(?:scores/)?[^/]+$)", "VARIANT/seed-SEED/", source.file
                )
                key = re.sub(r"\.\d+(?=\.|$)", ".INDEX", source.key)
                found.setdefault(file, {})[key] = None
    return [(file, ", ".join(keys)) for file, keys in found.items()]
