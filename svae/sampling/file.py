"""The h5 file of samples, which scores and figures read."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from svae.errors import UserError
from svae.jobs.hdf5 import File

NAME = "samples"
STANDARD = "z ~ N(0, I)"
"""The attribute `prior` of samples whose prior was not fitted: svae.model.priors describes it."""


@contextlib.contextmanager
def open_samples(path: Path | str) -> Iterator[h5py.Dataset]:
    """The samples, float32 (n, height, width, channel) in [-1, 1]; provenance in `.file.attrs`.

    UserError if the file contains none. They are checked when they are read.
    """
    with File(path, "delete it and run snakemake again") as file:
        yield file[NAME]


def fitted_prior(samples: h5py.Dataset) -> str | None:
    """What the latents of open samples were drawn from, in words; None for N(0, I)."""
    description = samples.file.attrs.get("prior", STANDARD)
    return None if description == STANDARD else description


@contextlib.contextmanager
def samples_of(
    path: Path | str, record: dict[str, Any], dataset_checksum: str
) -> Iterator[h5py.Dataset]:
    """`open_samples`; UserError if the samples are of another run or data set than these."""
    expected = {"weights_sha256": record["weights_sha256"], "dataset_checksum": dataset_checksum}
    with open_samples(path) as samples:
        for key, value in expected.items():
            if samples.file.attrs[key] != value:
                raise UserError(
                    f"{path} was sampled from another run ({key} differs); delete it and run "
                    f"snakemake"
                )
        yield samples
