"""Warnings in plain words about a training that went wrong without an error."""

import math
from typing import Any

from svae.history import objectives
from svae.settings.training import TrainingSettings

LEAST_EPOCHS = 3  # before a run is called dead
LEAST_GAIN = 0.01  # of the mean squared error
# Beyond what the noise of few training images makes of an epoch's error.
CLEAR_GAIN = 0.05


def warnings_of(
    records: list[dict[str, Any]], settings: TrainingSettings, dimension: int
) -> list[str]:
    """What the history of a run, one record an epoch, gives reason to warn about; often nothing.

    A warning has the same words at every epoch that it is true of. `dimension`: D, pixels of an
    image times channels.
    """
    if not records:
        return []
    found = []
    if _collapsed(records, settings, dimension):
        found.append(
            "posterior collapse: no latent map is active on the validation images. The latent "
            "carries no information about an image, so that reconstructions are all alike, and the "
            "decoder all but ignores what is drawn from the prior. Try "
            f"{_less_pressure(settings)}, a longer training.kl_warmup_epochs, or more epochs if "
            "these were few"
        )
    if _dead(records, settings, dimension):
        found.append(
            "dead run: the validation loss has been flat from the start, and so has the training "
            "error: the model learns nothing. Try another training.learning_rate (it is "
            f"{settings.learning_rate:g}): a larger one, or a smaller one if the loss jumped up in "
            "the first steps"
        )
    return found


def _collapsed(records: list[dict[str, Any]], settings: TrainingSettings, dimension: int) -> bool:
    """No map is active behind the epoch whose weights are taken if the run ends here."""
    last = records[-1]
    if settings.early_stopping_patience is not None:
        last = min(records, key=lambda record: objectives(record, dimension)["valid"])
    return last["valid_active_maps"] == 0


def _less_pressure(settings: TrainingSettings) -> str:
    if settings.objective == "weighted":
        return f"a smaller training.kl_weight (it is {settings.kl_weight:g})"
    beta = f"a smaller training.beta (it is {settings.beta:g})"
    if isinstance(settings.decoder_variance, str):
        return beta
    return f"{beta}, a smaller training.decoder_variance (it is {settings.decoder_variance:g})"


def _dead(records: list[dict[str, Any]], settings: TrainingSettings, dimension: int) -> bool:
    """Neither the validation objective nor the training error came noticeably below the first.

    The training error tells a dead run from one that converged within its first epoch, whose mean
    contains the way down, so that all later ones lie below it; and from one whose KL grows as fast
    as its error falls. During a warm-up nothing can be said.
    """
    warmup = max(settings.learning_rate_warmup_epochs, settings.kl_warmup_epochs)
    if len(records) - math.ceil(warmup) < LEAST_EPOCHS:
        return False
    losses = [objectives(record, dimension)["valid"] for record in records]
    errors = [record["train_sse_per_image"] for record in records]
    # Half of D log(1 - 0.01): what 1 % less error is worth in nats at the best variance.
    gain = LEAST_GAIN * (losses[0] if settings.objective == "weighted" else dimension / 2)
    first, *later = errors
    learns = max(later) < (1 - LEAST_GAIN) * first or min(later) < (1 - CLEAR_GAIN) * first
    return min(losses) > losses[0] - gain and not learns
