"""Scores of one run, from files to files."""

import contextlib
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from svae.datasets.store import Store
from svae.errors import UserError
from svae.jobs.files import read_json, replacing, write_json
from svae.jobs.neutral import restored
from svae.jobs.provenance import software
from svae.scores.score import Run, Score

log = logging.getLogger(__name__)

# What every score carries over from the record of its run.
CONTEXT = ("variant", "dataset", "dataset_checksum", "seed", "weights_sha256")
PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "scikit-learn", "h5py", "threadpoolctl")


class Files:
    """The files of a finished run and of its images, each opened when a score first needs it.

    Several scores of a run share what is open. A context manager.
    """

    def __init__(
        self,
        record: Path | str,
        data: Path | str,
        samples: Path | str | Any = None,
        spectrum: Path | str | Any = None,
    ):
        """record: its run.json; data: the h5 store. samples, spectrum: None if no score needs them.
        UserError if the run is not of these images."""
        self.folder = Path(record).parent
        self.record = read_json(record)
        self._data, self._samples, self._spectrum = data, samples, spectrum
        self._opened = contextlib.ExitStack()
        self.store = self._opened.enter_context(Store(data))
        self.of_these_images(record, self.record["dataset_checksum"])

    def __enter__(self) -> "Files":
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @functools.cached_property
    def model(self) -> Any:
        from svae.model.saved import load_model

        return load_model(self.folder)[0]

    @functools.cached_property
    def samples(self) -> Any:
        from svae.sampling.file import samples_of

        return self._opened.enter_context(
            samples_of(self._samples, self.record, self.store.checksum)
        )

    @functools.cached_property
    def spectrum(self) -> Any:
        from svae.scores.spectrum import load

        found = load(self._spectrum)
        self.of_these_images(self._spectrum, found.dataset_checksum)
        return found

    def of_these_images(self, path: Path | str, checksum: str) -> None:
        if checksum != self.store.checksum:
            raise UserError(
                f"{path} is of other images than {self._data}; delete it, run snakemake"
            )


def measure(
    score: Score,
    settings: Mapping[str, Any] | None,
    reads: Mapping[str, Any],
    threads: int,
    files: Files,
    target: Path | str,
    per_image: Path | str,
) -> None:
    """Measure one score of a finished run.

    settings: of the score's own section; reads: those of other sections that it reads, by their
    keys. `target` (JSON) has what the score's `measure` gives, and what it was taken of;
    `per_image` (npz) its values of single images, if any. UserError if run, samples and spectrum
    are not of one another and of these images.
    """
    own = None if score.settings is None else restored(score.settings, settings or {})
    openers = {
        "model": lambda: files.model,
        "samples": lambda: files.samples,
        "spectrum": lambda: files.spectrum,
    }
    run = Run(
        folder=files.folder,
        record=files.record,
        store=files.store,
        threads=threads,
        reads=reads,
        open={need: openers[need] for need in score.needs},
    )
    found = dict(score.measure(run, own))
    arrays = found.pop("per_image", {})
    with replacing(per_image) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    record = files.record
    context = {key: record[key] for key in CONTEXT}
    versions = {**record["software"], **software(*PACKAGES)}
    write_json(target, {**context, **found, "software": versions})
    log.info("%s: %s: %s", record["variant"], score.title, found.get("refused", "measured"))
