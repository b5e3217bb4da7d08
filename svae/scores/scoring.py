"""The Parzen-window score of one run, with all its context, from files to files."""

from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np

from svae.datasets.store import Store
from svae.jobs.files import read_json, replacing, write_json
from svae.jobs.provenance import software
from svae.sampling.file import samples_of
from svae.sampling.prior import redrawn
from svae.scores.store_score import CONTEXT, fields, parzen_of
from svae.settings.parzen import ParzenSettings
from svae.settings.sampling import SamplingSettings


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
