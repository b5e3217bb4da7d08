"""The history of a training, history.jsonl: one line an epoch; how it is read and judged.

Imports no TensorFlow: the report reads histories too.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svae.errors import UserError

NAME = "history.jsonl"


def read_history(folder: Path | str) -> list[dict[str, Any]]:
    """One record an epoch from the run in `folder`. UserError if a finished run has none."""
    path = Path(folder, NAME)
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); delete run.json beside it and run snakemake again"
        ) from None


def objectives(record: dict[str, Any], dimension: int) -> dict[str, float]:
    """The objective of training and validation images behind one epoch; smaller is better.

    SSE + w KL in squared pixel units, or the negative ELBO in nats, with the decoder variance at
    the end of the epoch: without warm-up and at beta = 1, so that the epochs, and training and
    validation, are comparable, unlike in `train_loss`. `dimension`: D, pixels of an image times
    channels.
    """
    sse, kl = record["train_sse_per_image"], record["train_kl_nats_per_image"]
    if "valid_elbo_nats_per_image" not in record:
        return {
            "train": sse + record["kl_weight"] * kl,
            "valid": record["valid_objective_sse_plus_w_kl"],
        }
    variance = record["decoder_variance"]
    normaliser = 0.5 * dimension * math.log(2 * math.pi * variance)
    return {
        "train": normaliser + sse / (2 * variance) + kl,
        "valid": -record["valid_elbo_nats_per_image"],
    }


def best_epoch(records: Sequence[dict[str, Any]], dimension: int) -> int:
    """The first epoch, counted from 1, with the best validation objective; 0 if there is none."""
    losses = [objectives(record, dimension)["valid"] for record in records]
    return 1 + losses.index(min(losses)) if losses else 0
