"""All runs of one data set, as the report reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from svae.errors import UserError
from svae.jobs.files import read_npz
from svae.report.intervals import Comparison, compare
from svae.report.numbers import Document, Source
from svae.report.seeds import by_variant
from svae.scores.image_measures import ImageMeasure, elbo, image_measures, j
from svae.scores.registry import scores
from svae.scores.score import Score

# The sanity row of real images in place of samples.
REAL = "training images"


@dataclass(frozen=True, eq=False)
class Run:
    """What one training left: its record, its scores by name, and by the name of a measure its
    values of the test images, float64 (n_images,) each."""

    record: Document
    scores: Mapping[str, Document]
    per_image: Mapping[str, Source]

    @classmethod
    def read(
        cls,
        record: Path | str,
        scores: Mapping[str, Path | str],
        per_image: Mapping[str, Path | str],
    ) -> "Run":
        """From run.json, and by score its JSON file and its npz file of single images."""
        values = {}
        for measure in image_measures().values():
            path = per_image.get(measure.score)
            if path is None:
                continue
            arrays = read_npz(path)
            if measure.array in arrays:  # a score that was refused has none
                origin = Path(path).as_posix()
                values[measure.name] = Source(origin, measure.array, arrays[measure.array])
        documents = {name: Document.read(path) for name, path in scores.items()}
        return cls(Document.read(record), documents, values)


@dataclass(frozen=True, eq=False)
class Files:
    """Where the files of all runs lie, and what is compared.

    Every list has all seeds of the first variant, then those of the next. comparisons: pairs of
    variants; None: every variant against the first. baselines: the sanity rows, baselines.json.
    """

    variants: Sequence[str]
    seeds: Sequence[int]
    comparisons: Sequence[tuple[str, str]] | None
    records: Sequence[Path | str]
    """run.json"""
    scores: Mapping[str, Sequence[Path | str]]
    """The JSON files of each score."""
    per_image: Mapping[str, Sequence[Path | str]]
    """The npz files of each score that has values of single images."""
    baselines: Path | str

    @classmethod
    def among(
        cls,
        variants: Sequence[str],
        seeds: Sequence[int],
        comparisons: Sequence[Sequence[str]] | None,
        inputs: Mapping[str, Any],
    ) -> "Files":
        """From the inputs of a rule: records, baselines, and score_NAME and per_image_NAME of each
        score."""
        given = dict(inputs.items())

        def by_score(prefix: str) -> dict[str, Sequence[Path | str]]:
            found = {name: given.get(f"{prefix}_{name}") for name in scores()}
            return {name: paths for name, paths in found.items() if paths is not None}

        pairs = None if comparisons is None else [(first, second) for first, second in comparisons]
        rest = given["records"], by_score("score"), by_score("per_image"), given["baselines"]
        return cls(variants, seeds, pairs, *rest)


def read(title: str, files: Files) -> "Study":
    """The study of the data set `title`. UserError if the number of files is not one per run."""
    lists = {"run.json": files.records}
    lists |= {f"{name}.json": paths for name, paths in files.scores.items()}
    lists |= {f"{name}_per_image.npz": paths for name, paths in files.per_image.items()}
    for name, paths in lists.items():
        if len(paths) != len(files.variants) * len(files.seeds):
            raise UserError(
                f"report: {len(paths)} files {name}, but {len(files.variants)} variants with "
                f"{len(files.seeds)} seeds each; give one per run"
            )

    def of_run(index: int, paths: Mapping[str, Sequence[Path | str]]) -> dict[str, Path | str]:
        return {name: each[index] for name, each in paths.items()}

    runs = [
        Run.read(record, of_run(index, files.scores), of_run(index, files.per_image))
        for index, record in enumerate(files.records)
    ]
    return Study(
        title,
        list(files.seeds),
        by_variant(files.variants, runs),
        files.comparisons,
        Document.read(files.baselines),
    )


@dataclass(frozen=True, eq=False)
class Study:
    """The runs of every variant, one per seed, in the order of `seeds`.

    title: of the data set. comparisons: the pairs of variants whose differences are asked for;
    None: every variant against the first. baselines: the sanity rows.
    """

    title: str
    seeds: Sequence[int]
    runs: Mapping[str, Sequence[Run]]
    comparisons: Sequence[tuple[str, str]] | None
    baselines: Document
    _differences: dict[str, list[Comparison]] = field(default_factory=dict)

    @property
    def variants(self) -> list[str]:
        return list(self.runs)

    @property
    def several(self) -> bool:
        """Whether there is more than one seed."""
        return len(self.seeds) > 1

    def records(self, variant: str) -> list[Document]:
        return [run.record for run in self.runs[variant]]

    def scores(self, variant: str, name: str) -> list[Document]:
        return [run.scores[name] for run in self.runs[variant]]

    def measured(self) -> list[Score]:
        """The scores that the runs have: all but those that the configuration leaves out."""
        return [score for name, score in scores().items() if name in self.everything()[0].scores]

    def everything(self) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs]

    def per_image(self, measure: ImageMeasure, *variants: str) -> list[Source]:
        """The values of the test images: all seeds of the first variant, then of the second. Empty
        if a run has none."""
        runs = [run for variant in variants for run in self.runs[variant]]
        found = [run.per_image.get(measure.name) for run in runs]
        return [] if None in found else [source for source in found if source is not None]

    def has(self, measure: ImageMeasure, variant: str) -> bool:
        return bool(self.per_image(measure, variant))

    def mean(self, measure: ImageMeasure, variant: str) -> float:
        """Mean of a measure over test images and seeds."""
        values = [source.value for source in self.per_image(measure, variant)]
        return float(np.mean(values))

    def comparable(self, measure: ImageMeasure, first: str, second: str) -> bool:
        """Whether both have the measure, and agree in what it may only be compared at."""
        if not (self.has(measure, first) and self.has(measure, second)):
            return False
        if measure.column.compared_at is None:
            return True
        key = measure.column.compared_at
        values = [
            score.get(key) for name in (first, second) for score in self.scores(name, measure.score)
        ]
        return bool(np.allclose(values, values[0], rtol=1e-6, atol=0))

    def deciding(self) -> ImageMeasure:
        """J if all variants share w, else the ELBO, which compares any."""
        groups = self.groups()
        return j() if groups and groups[0] == self.variants else elbo()

    def asked(self, measure: ImageMeasure) -> list[tuple[str, str]]:
        """Of the comparisons asked for, those that are comparable by the measure. If none is named,
        every variant against the first that it is comparable with."""
        if self.comparisons is not None:
            return [pair for pair in self.comparisons if self.comparable(measure, *pair)]
        pairs = []
        for index, name in enumerate(self.variants):
            for first in self.variants[:index]:
                if self.comparable(measure, name, first):
                    pairs.append((name, first))
                    break
        return pairs

    def differences(self, measure: ImageMeasure) -> list[Comparison]:
        """Of the comparisons that are `asked` by the measure."""
        if measure.name not in self._differences:
            values = self.values(measure)
            self._differences[measure.name] = compare(values, self.asked(measure))
        return self._differences[measure.name]

    def pooled(self, measure: ImageMeasure) -> list[str]:
        """The variants that are comparable with one of those asked for: their runs tell how runs
        spread."""
        named = {name for pair in self.asked(measure) for name in pair}
        return [
            name
            for name in self.variants
            if any(self.comparable(measure, name, other) for other in named)
        ]

    def values(self, measure: ImageMeasure) -> dict[str, np.ndarray]:
        """Variant -> (n_seeds, n_images), of the variants that are `pooled`."""
        arrays = {
            name: [source.value for source in self.per_image(measure, name)]
            for name in self.pooled(measure)
        }
        counts = sorted({len(each) for by_seed in arrays.values() for each in by_seed})
        if len(counts) > 1:
            raise UserError(
                f"{measure.score}_per_image.npz: runs have values of different numbers of test "
                f"images ({', '.join(map(str, counts))}), which cannot be paired; delete "
                f"scores/{measure.score}.json of these runs and run snakemake again"
            )
        return {name: np.stack(by_seed) for name, by_seed in arrays.items()}

    def groups(self) -> list[list[str]]:
        """The variants that J compares, that share one w under SSE + w KL, in their order."""
        found: list[list[str]] = []
        for name in self.variants:
            if self.records(name)[0].get("objective") != "weighted":
                continue
            for group in found:
                if self.comparable(j(), name, group[0]):
                    group.append(name)
                    break
            else:
                found.append([name])
        return found

    def objectives(self) -> list[str]:
        return sorted({run.record.get("objective") for run in self.everything()})

    def baseline(self, name: str) -> str | None:
        """The key of a sanity row in `baselines`, if there is one of this name."""
        rows = self.baselines.get("rows") or []
        return next((f"rows.{i}" for i, row in enumerate(rows) if row["name"] == name), None)
