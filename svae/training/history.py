"""Reading the history of a training (history.jsonl, one line per epoch), and its objectives.

Imports no TensorFlow, because the report reads histories, too.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svae.errors import UserError, readable

NAME = "history.jsonl"


def read_history(folder: Path | str, sha256: str | None = None) -> list[dict[str, Any]]:
    """Return the history of the run in `folder`, one record per epoch.

    sha256: of the file, as the run.json of a finished run has it. UserError if the file is missing,
    unreadable or another one.
    """
    path = Path(folder, NAME)
    try:
        content = path.read_bytes()
        if sha256 in (None, hashlib.sha256(content).hexdigest()):
            return [json.loads(line) for line in content.decode("utf-8").splitlines()]
        reason = "it was changed"
    except (OSError, ValueError, RecursionError) as error:
        reason = readable(str(error))
    raise UserError(
        f"{path} cannot be read ({reason}); delete run.json next to it and run snakemake again"
    )


def objectives(record: dict[str, Any], dimension: int) -> dict[str, float]:
    """Return the trained objective of training and validation images after one epoch.

    Smaller is better: SSE + w KL in squared pixel units, or the negative ELBO in nats with beta
    times the KL, for the decoder variance at the end of the epoch. Warm-up is left out so that,
    unlike `train_loss`, epochs can be compared with each other, and training with validation. The
    ELBO at beta = 1 is `valid_elbo_nats_per_image` of the record.
    dimension: D, pixels per image times channels.
    """
    sse, kl = record["train_sse_per_image"], record["train_kl_nats_per_image"]
    if "valid_elbo_nats_per_image" not in record:
        return {
            "train": sse + record["kl_weight"] * kl,
            "valid": record["valid_objective_sse_plus_w_kl"],
        }
    variance = record["decoder_variance"]
    beta = record["kl_weight"] / (2 * variance)
    normaliser = 0.5 * dimension * math.log(2 * math.pi * variance)
    at_unit_beta = -record["valid_elbo_nats_per_image"]
    return {
        "train": normaliser + sse / (2 * variance) + beta * kl,
        "valid": at_unit_beta + (beta - 1) * record["valid_kl_nats_per_image"],
    }


def best_epoch(records: Sequence[dict[str, Any]], dimension: int) -> int:
    """Return the first epoch, from 1, with the best validation objective as trained; 0 if none."""
    losses = [objectives(record, dimension)["valid"] for record in records]
    return 1 + losses.index(min(losses)) if losses else 0
