"""T0: what needs no training, the linear VAE in closed form and samples that need no model.

A linear VAE at its optimum has the principal components of the training images;
svae/scores/spectrum.py derives its SSE and KL. Its bound is tight: this ELBO is its log-likelihood.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svae.scores.linear_vae_density import optimal_variance
from svae.scores.spectrum import Spectrum, linear_vae

# The configuration whose data set it is, and the weights w of the tables.
DATASETS = {
    "cifar10": ("t1", (48, 16, 16 / 3, 1, 1 / 4)),
    "celeba": ("t5", (192, 64 / 3)),
}
ENTRIES = (64, 576)


def curve(spectrum: Spectrum, weights: Sequence[float]) -> list[dict[str, Any]]:
    """A row for each number of entries and w, and for the w whose variance is the best; of the
    training images."""
    rows = []
    for entries in ENTRIES:
        best = optimal_variance(spectrum, entries)
        chosen = [*((w, False) for w in weights), *([(2 * best, True)] if best else [])]
        for w, optimal in chosen:
            terms = linear_vae(spectrum, w, entries)
            sse, kl = terms["sse_per_image"], terms["kl_nats_per_image"]
            dimension = spectrum.mean.size
            rows.append(
                {
                    "latent_entries": entries,
                    "w": w,
                    "optimal": optimal,
                    "active_entries": terms["active_entries"],
                    "sse": sse,
                    "kl_nats": kl,
                    "j": terms["objective_sse_plus_w_kl"],
                    "elbo_nats": -dimension / 2 * math.log(math.pi * w) - sse / w - kl,
                }
            )
    return rows


def sanity_rows(baselines: Path) -> list[dict[str, Any]]:
    """The Parzen scores of baselines.json."""
    rows = json.loads(baselines.read_text(encoding="utf-8"))["rows"]
    keys = ("name", "n_samples", "log_likelihood", "standard_error", "sigma")
    return [{key: row[key] for key in keys} for row in rows]
