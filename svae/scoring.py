"""The Parzen-window score of one run, with all its context, from files to files."""

import logging
from dataclasses import asdict
from pathlib import Path
from statistics import stdev
from typing import Any

import h5py
import numpy as np

from svae import parzen
from svae.datasets.store import Store
from svae.files import read_json, replacing, write_json
from svae.provenance import software
from svae.samples import samples_of
from svae.sampling import redrawn
from svae.settings.parzen import ParzenSettings
from svae.settings.sampling import SamplingSettings
from svae.units import PIXEL_RANGE

log = logging.getLogger(__name__)

# The field's protocol (Goodfellow et al. 2014), as far as the data set has the images.
MOST_VALID, MOST_TEST = 1000, 10_000

# What a score carries over from the record of its run.
CONTEXT = (
    "variant",
    "dataset",
    "dataset_checksum",
    "seed",
    "objective",
    "epochs",
    "kl_weight",
    "equivalent_variance_at_unit_beta",
    "equivalent_beta_at_unit_variance",
    "decoder_variance",
    "parameters",
    "training_seconds",
)


def score(
    data: Path | str,
    folder: Path | str,
    samples: Path | str,
    settings: ParzenSettings,
    sampling: SamplingSettings,
    fresh_draws: int,
    target: Path | str,
    per_image: Path | str,
) -> None:
    """Score the samples of the run in `folder` against the h5 store `data`.

    Writes the score with its context to `target` (JSON) and each test image's log-likelihood in
    nats to `per_image` (npz: log_likelihood, float64 (n_test,)). The score is then taken anew,
    choice of sigma included, of `fresh_draws` further sets of samples: how far one set's is to be
    trusted. UserError if the samples are not of this run, or there are fewer images than asked for.
    """
    run = read_json(Path(folder) / "run.json")
    with Store(data) as store, samples_of(samples, run, store.checksum) as drawn:
        batch_norm = drawn.file.attrs["batch_norm"]
        result = parzen_of(drawn, store, settings, run["variant"])
        fresh = [
            parzen_of(again, store, settings, f"{run['variant']}, drawn anew").log_likelihood
            for again in redrawn(folder, sampling, fresh_draws)
        ]
        source = store.attributes.get("source_note", "")
    content: dict[str, Any] = {key: run[key] for key in CONTEXT}
    content |= fields(result)
    content |= {
        "sse_per_image": run["test"]["sse_per_image"],
        "kl_nats_per_image": run["test"]["kl_nats_per_image"],
        "active_entries": run["test"]["active_entries"],
        "active_maps": run["test"]["active_maps"],
        "terms_of": "the test images, one posterior sample each",
        "fresh_draws": {
            "n": len(fresh),
            "log_likelihood": fresh,
            "standard_deviation": stdev(fresh) if len(fresh) > 1 else None,
        },
        "batch_norm": batch_norm,
        "dataset_source_note": source,
        "software": {**run["software"], **software("tensorflow", "numpy")},
    }
    with replacing(per_image) as temporary, temporary.open("wb") as file:
        np.savez(file, log_likelihood=result.per_image)
    write_json(target, content)


def parzen_of(
    samples: np.ndarray | h5py.Dataset, store: Store, settings: ParzenSettings, name: str
) -> parzen.ParzenResult:
    """The score of samples on the images of a store; `name` says in the log whose they are.

    samples: float32 (n, height, width, channel), pixels on [-1, 1]. UserError if there are fewer
    images than asked for.
    """
    sigmas = parzen.sigma_grid(
        settings.sigma_log10_min, settings.sigma_log10_max, settings.sigma_count
    )
    n_valid, n_test = _counts(settings, store)
    read = n_test
    if settings.protocol == "paper":
        read = max(n_test, n_valid * settings.sigma_count)
    result = parzen.score(
        samples,
        store.images("valid", n_valid),
        store.images("test", read),
        sigmas,
        settings.protocol,
        n_valid,
        n_test,
        refine=settings.refine,
    )
    if result.sigma_at_grid_edge:
        log.warning(
            "%s: sigma %.3g lies at the edge of its grid: the score is a lower bound; "
            "widen parzen.sigma_log10_min or parzen.sigma_log10_max",
            name,
            result.sigma,
        )
    log.info(
        "%s: %.1f +- %.1f nats per image (%s, sigma %.3f, %d samples, %d test images)",
        name,
        result.log_likelihood,
        result.standard_error,
        result.protocol,
        result.sigma,
        result.n_samples,
        result.n_test,
    )
    return result


def fields(result: parzen.ParzenResult) -> dict[str, Any]:
    """A score as JSON has it, with its unit; without the scores of single images."""
    content = asdict(result)
    del content["per_image"]
    return {
        **content,
        "unit": "nats per image, for a density of pixels on [-1, 1]",
        "pixel_range": list(PIXEL_RANGE),
    }


def _counts(settings: ParzenSettings, store: Store) -> tuple[int, int]:
    """The numbers of images that choose sigma and that are scored; auto is as many as usual."""
    valid, test = store.count("valid"), store.count("test")
    if settings.protocol == "paper":
        valid = test // settings.sigma_count
    n_valid, n_test = settings.n_valid, settings.n_test
    return (
        min(MOST_VALID, valid) if n_valid == "auto" else n_valid,
        min(MOST_TEST, test) if n_test == "auto" else n_test,
    )
