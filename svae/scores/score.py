"""What a score declares, so that rules, tables and report can go over all scores.

A module of svae/scores/measures/ is one score: a function

    def measure(run: Run, settings: Settings) -> dict: ...

and SCORE = Score(...), which names it. Nothing else has to list the score: docs/add-a-score.md has
an example. The Snakefile reads these modules, so they import nothing heavy at their top, but within
`measure`, or leave the arithmetic to a module next to them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

# What a run gives to `measure` if SCORE asks for it, and the module that opens it.
OPENED_BY = {
    "model": "svae.model.saved",
    "samples": "svae.sampling.file",
    "spectrum": "svae.scores.spectrum",
}


@dataclasses.dataclass(frozen=True)
class Column:
    """One number of a score, in the tables, on the page and in results/summary.csv."""

    key: str
    """Of the number in the score's JSON file; points lead to entries of entries, as in `a.b`."""
    label: str
    """The heading of its column in tables, without the unit."""
    meaning: str
    """One sentence that says what the number is and how to read it."""
    unit: str = ""
    format: str = ".4g"
    """A format specification of Python."""
    higher_is_better: bool | None = None
    """None where neither is."""
    csv: str | None = None
    """The name of its column in summary.csv; None: it has none."""
    shown: bool = True
    """Whether tables have it."""
    over_seeds: Literal["mean", "largest", "any", "first"] = "mean"
    """What summary.csv shows of several seeds; tables show the mean and the spread."""
    error: str | None = None
    """The key of the number's standard error."""
    of: str | None = None
    """The key of the whole that the number is a part of: tables show `3 of 64`."""
    median: str | None = None
    """The key of the median of the images, shown where few images dominate their mean, `key`."""
    largest: str | None = None
    """The key of the largest value of an image, shown next to that median."""
    each: str | None = None
    """The key of a list of names: `key` then is a list of as many numbers, each of which has a
    column in tables, whose heading has the name in place of {}."""

    per_image: str | None = None
    """The array in the score's per-image file that has this number for every test image, float64
    (n_images,): differences between variants are taken of these."""
    compared_at: str | None = None
    """The key of a number that two runs must share for their difference to mean anything."""
    mark: tuple[str, str] | None = None
    """The key of a truth value, and words that stand after the number where it is true."""

    def entry(self, index: int, name: Any) -> "Column":
        """The column of one entry of a list, see `each`."""
        return dataclasses.replace(
            self, key=f"{self.key}.{index}", label=self.label.format(name), each=None
        )

    @property
    def error_csv(self) -> str | None:
        """The column of the standard error in summary.csv, such as x_standard_error_nats."""
        if self.error is None or self.csv is None:
            return None
        return with_suffix(self.csv, "standard_error")


def with_suffix(column: str, suffix: str) -> str:
    """The name of a CSV column that goes with another, as in x_spread_nats."""
    stem = column.removesuffix("_nats")
    return f"{stem}_{suffix}{column[len(stem) :]}"


@dataclasses.dataclass(frozen=True)
class Score:
    """One score: what it is measured from, by which function, and how it is shown."""

    name: str
    """That of its module, of its JSON file and of its section in config.yaml."""
    title: str
    meaning: str
    """A few sentences for readers of the report who do not know the score."""
    columns: tuple[Column, ...]
    measure: Callable[["Run", Any], dict[str, Any]]
    """(run, settings) -> the content of the score's JSON file; where it cannot be measured,
    {"refused": reason}. An entry `per_image`, name -> array (n, ...) of values of single images,
    goes into an npz file of its own. An entry `stand_ins` is a list of what was measured in place
    of samples, with the keys of the columns, a `name` and a `meaning`: rows below the variants. One
    with `of_run` true is of this run, the others are the same for all."""
    settings: type | None = None
    """A dataclass whose fields are declared by svae.settings.fields.setting; None: no settings."""
    section: str | None = None
    """The section of config.yaml that has these settings, if not `name`."""
    reads: tuple[str, ...] = ()
    """Further settings that decide the score, such as "sampling.n_samples": see Run.setting."""
    off: Callable[[Any], bool] | None = None
    """Whether its settings leave the score out: nothing is then measured or shown. None: never."""
    needs: tuple[str, ...] = ()
    """What it takes of a run, besides record and store: keys of OPENED_BY."""
    files: tuple[str, ...] = ()
    """Files of the data set that it reads, by the names of their rules, such as "features":
    `run.setting("file.features")` is the path."""
    tensorflow: bool = True
    """Whether it computes with TensorFlow, on a GPU where there is one."""
    alone: bool = False
    """Whether a job of its own measures it, so that it can be had without the other scores."""
    method: str = ""
    """How the numbers came about, with keys of the JSON file in braces: "On {n_images} images"."""
    reference: tuple[str, str] | None = None
    """Where the score is from: words, and an address."""

    @property
    def entries(self) -> tuple[str, ...]:
        """What measures it, as svae.jobs.fingerprint takes it."""
        used: list[Any] = [self.measure] if self.settings is None else [self.measure, self.settings]
        return tuple(f"{each.__module__}:{each.__name__}" for each in used)

    @property
    def measures(self) -> tuple[Column, ...]:
        """The columns that have a value for every test image."""
        return tuple(column for column in self.columns if column.per_image)

    @property
    def shown(self) -> dict[str, Any]:
        """All that decides how the score is shown, and nothing of how it is measured."""
        keys = ("name", "title", "meaning", "method", "reference")
        columns = [dataclasses.asdict(column) for column in self.columns]
        return {**{key: getattr(self, key) for key in keys}, "columns": columns}

    def used(self, settings: Any) -> bool:
        """Whether a configuration with these settings measures it."""
        return self.off is None or not self.off(settings)

    def settings_of(self, sections: Mapping[str, Mapping[str, Any]]) -> Any:
        """The settings object from the sections of a configuration; None if it has no settings."""
        if self.settings is None:
            return None
        return part_of(sections[self.section or self.name], self.settings)


def part_of(section: Mapping[str, Any], settings: type) -> Any:
    """An object of the dataclass `settings` with those settings of a section that it has."""
    names = [field.name for field in dataclasses.fields(settings)]
    return settings(**{name: section[name] for name in names})


class Run:
    """One finished run, as a score sees it."""

    def __init__(
        self,
        folder: Path,
        record: Mapping[str, Any],
        store: Any,
        threads: int,
        reads: Mapping[str, Any],
        open: Mapping[str, Callable[[], Any]],
    ):
        """open: what the score needs -> how it is opened, once it is used for the first time."""
        self.folder = folder
        self.record = record
        """run.json."""
        self.store = store
        """The data set's images, svae.datasets.store.Store."""
        self.threads = threads
        """For arithmetic whose result does not depend on their number."""
        self._reads, self._open = reads, open
        self._opened: dict[str, Any] = {}

    @property
    def seed(self) -> int:
        return self.record["seed"]

    def setting(self, key: str) -> Any:
        """A setting of another section, which SCORE has among `reads`; a section is a dict."""
        return self._reads[key]

    @property
    def model(self) -> Any:
        """svae.model.vae.SpatialVAE with the final weights."""
        return self._get("model")

    @property
    def samples(self) -> Any:
        """An open h5py.Dataset: float32 (n, height, width, channel), pixels on [-1, 1]."""
        return self._get("samples")

    @property
    def spectrum(self) -> Any:
        """The principal components of the training images, svae.scores.spectrum.Spectrum."""
        return self._get("spectrum")

    def _get(self, need: str) -> Any:
        if need not in self._opened:
            if need not in self._open:
                raise LookupError(f'a score uses run.{need}: add "{need}" to needs of its SCORE')
            self._opened[need] = self._open[need]()
        return self._opened[need]
