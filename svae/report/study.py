"""All runs of one data set, as the report reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from svae.errors import UserError
from svae.report.numbers import PAIRED_MEAN, Document, Number, Source, half_width, number
from svae.report.seeds import by_variant
from svae.scores.registry import PRIMARY, scores

# The variant that differences are taken to, where it is there; else the first one.
REFERENCE = "vanilla"
# The sanity row of real images in the place of samples.
REAL = "training images"


@dataclass(frozen=True, eq=False)
class Run:
    """What one training left: its record, its scores by name, and the primary score of each test
    image, float64 (n_test,)."""

    record: Document
    scores: Mapping[str, Document]
    per_image: Source

    @classmethod
    def read(
        cls, record: Path | str, per_image: Path | str, scores: Mapping[str, Path | str]
    ) -> "Run":
        """From run.json, parzen_per_image.npz, and the JSON file of each score."""
        key = "log_likelihood"
        with np.load(per_image, allow_pickle=False) as file:
            values = Source(Path(per_image).as_posix(), key, file[key])
        documents = {name: Document.read(path) for name, path in scores.items()}
        return cls(Document.read(record), documents, values)


@dataclass(frozen=True, eq=False)
class Files:
    """Where the files of all runs lie: every list has all seeds of the first variant, then those of
    the next. baselines: the sanity rows, baselines.json."""

    variants: Sequence[str]
    seeds: Sequence[int]
    records: Sequence[Path | str]
    """run.json"""
    per_image: Sequence[Path | str]
    """parzen_per_image.npz"""
    scores: Mapping[str, Sequence[Path | str]]
    """The JSON files of each score."""
    baselines: Path | str

    @classmethod
    def among(
        cls, variants: Sequence[str], seeds: Sequence[int], inputs: Mapping[str, Any]
    ) -> "Files":
        """Out of the inputs of a rule: records, per_image, baselines, and score_NAME of each
        score."""
        given = dict(inputs.items())
        found = {name: given[f"score_{name}"] for name in scores() if f"score_{name}" in given}
        rest = {name: given[name] for name in ("records", "per_image", "baselines")}
        return cls(variants, seeds, scores=found, **rest)


def read(title: str, files: Files) -> "Study":
    """The study of the data set `title`. UserError if files are not of as many runs as there are
    variants and seeds."""
    lists = {"run.json": files.records, f"{PRIMARY}_per_image.npz": files.per_image}
    lists |= {f"{name}.json": paths for name, paths in files.scores.items()}
    for name, paths in lists.items():
        if len(paths) != len(files.variants) * len(files.seeds):
            raise UserError(
                f"report: {len(paths)} files {name}, but {len(files.variants)} variants with "
                f"{len(files.seeds)} seeds each; give one per run"
            )
    runs = [
        Run.read(record, per_image, dict(zip(files.scores, scores, strict=True)))
        for record, per_image, *scores in zip(
            files.records, files.per_image, *files.scores.values(), strict=True
        )
    ]
    by_name = by_variant(files.variants, runs)
    return Study(title, list(files.seeds), by_name, Document.read(files.baselines))


@dataclass(frozen=True, eq=False)
class Study:
    """The runs of every variant, one a seed, in the order of `seeds`.

    title: of the data set. baselines: the sanity rows.
    """

    title: str
    seeds: Sequence[int]
    runs: Mapping[str, Sequence[Run]]
    baselines: Document

    @property
    def variants(self) -> list[str]:
        return list(self.runs)

    @property
    def several(self) -> bool:
        """Whether there is more than one seed."""
        return len(self.seeds) > 1

    @property
    def reference(self) -> str:
        return REFERENCE if REFERENCE in self.runs else self.variants[0]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every pair once, the first before the second in the order of the variants."""
        return list(combinations(self.runs, 2))

    def records(self, variant: str) -> list[Document]:
        return [run.record for run in self.runs[variant]]

    def scores(self, variant: str, name: str = PRIMARY) -> list[Document]:
        return [run.scores[name] for run in self.runs[variant]]

    def per_image(self, *variants: str) -> list[Source]:
        """The scores of the test images: all seeds of the first variant, then of the second."""
        return [run.per_image for variant in variants for run in self.runs[variant]]

    def everything(self) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs]

    def mean_score(self, variant: str) -> float:
        """Mean log-likelihood over seeds, in nats per image."""
        return float(np.mean([score.get("log_likelihood") for score in self.scores(variant)]))

    def objectives(self) -> list[str]:
        return sorted({run.record.get("objective") for run in self.everything()})

    def established(self, first: str, second: str) -> bool | None:
        """Whether zero lies outside the interval of their difference; None with one seed."""
        if not self.several:
            return None
        sources = self.per_image(first, second)
        width = number(half_width(len(self.pairs)), sources, ".1f")
        lead = number(PAIRED_MEAN, sources, ".1f")
        assert isinstance(width, Number) and isinstance(lead, Number)  # every image has a score
        return abs(lead.value) > width.value

    def baseline(self, name: str) -> str | None:
        """The key of a sanity row in `baselines`, if there is one of this name."""
        rows = self.baselines.get("rows") or []
        return next((f"rows.{i}" for i, row in enumerate(rows) if row["name"] == name), None)
