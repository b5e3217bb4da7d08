"""One score of one run, from files to files."""

import contextlib
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


def measure(
    score: Score,
    settings: Mapping[str, Any] | None,
    reads: Mapping[str, Any],
    threads: int,
    data: Path | str,
    record: Path | str,
    target: Path | str,
    per_image: Path | str,
    samples: Path | str | Any = None,
    spectrum: Path | str | Any = None,
) -> None:
    """Measure the finished run whose run.json is `record` against the h5 store `data`.

    settings: of the score's own section; reads: those of other sections that it reads, by their
    keys. samples, spectrum: files that the score needs; those it does not need may be None.
    `target` (JSON) has what the score's `measure` gives, and what it was taken of; `per_image`
    (npz) its values of single images, if any. UserError if run, samples and spectrum are not of one
    another and of these images.
    """
    content = read_json(record)
    own = None if score.settings is None else restored(score.settings, settings or {})
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(Store(data))
        _of_these_images(record, content["dataset_checksum"], store, data)

        def open_model() -> Any:
            from svae.model.saved import load_model

            return load_model(Path(record).parent)[0]

        def open_samples() -> Any:
            from svae.sampling.file import samples_of

            return opened.enter_context(samples_of(samples, content, store.checksum))

        def open_spectrum() -> Any:
            from svae.scores.spectrum import load

            found = load(spectrum)
            _of_these_images(spectrum, found.dataset_checksum, store, data)
            return found

        ways = {"model": open_model, "samples": open_samples, "spectrum": open_spectrum}
        run = Run(
            folder=Path(record).parent,
            record=content,
            store=store,
            threads=threads,
            reads=reads,
            open={need: ways[need] for need in score.needs},
        )
        found = dict(score.measure(run, own))
    arrays = found.pop("per_image", {})
    with replacing(per_image) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    context = {key: content[key] for key in CONTEXT}
    versions = {**content["software"], **software(*PACKAGES)}
    write_json(target, {**context, **found, "software": versions})
    log.info("%s: %s: %s", content["variant"], score.title, found.get("refused", "measured"))


def _of_these_images(path: Path | str, checksum: str, store: Store, data: Path | str) -> None:
    if checksum != store.checksum:
        raise UserError(f"{path} is of other images than {data}; delete it, run snakemake")
