"""Warnings in plain words about a training that went wrong without an error, each with a remedy.

Thresholds lie between runs that were looked at, on faces (64x64x3) and CIFAR-10: those that are
healthy stay below them, those whose pictures or terms are wrong lie above.
"""

import math
from typing import Any

from svae.settings.training import TrainingSettings
from svae.training.history import best_epoch, objectives
from svae.training.spikes import DOMINATED, described, objective

LEAST_EPOCHS = 3  # before a run is called dead
LEAST_GAIN = 0.01  # of the mean squared error
# Beyond what the noise of few training images makes of an epoch's error.
CLEAR_GAIN = 0.05
# Times the linear VAE's SSE + w KL. Vectors that were trained well have 0.98 (faces, w = 21), 0.996
# (faces, w = 192) and 1.002 (CIFAR-10, w = 48); at a constant learning rate the second had 1.035.
WORSE = 1.02
# A tenth of the epochs is compared with the tenth before it: single epochs differ by 2 % and more
# at a constant learning rate. Runs whose learning rate ended at 0 fell by 0.1 % and 0.3 %, and
# by up to 1.3 % at two thirds of their epochs.
STILL_FALLS = 0.01
FALL_EPOCHS = 5  # before anything is said of a fall
# Healthy runs have between 0.6 and 9 times the linear VAE's active entries; a low-rank latent of
# which one map is left has less than half.
FEW_ACTIVE = 0.5
LEAST_EXPECTED = 8  # active entries of the linear VAE: of fewer, a half is one or two
# Healthy runs have none; from here on they are seen in a grid of pictures: one pixel in eight
# images of 64x64x3.
SATURATED_SHARE = 1e-5

DATA_INITIALIZATION = "model.initialization data"


def warnings_of(
    records: list[dict[str, Any]], settings: TrainingSettings, dimension: int
) -> list[str]:
    """What the history of a run, one record an epoch, gives reason to warn about; often nothing.

    A warning has the same words at every epoch that it is true of; spikes are reported where they
    happen. `dimension`: D, pixels of an image times channels.
    """
    if not records:
        return []
    found = _of_history(records, settings, dimension)
    # A healthy run may have some in one of its first epochs.
    last = [record["valid_saturated_share"] for record in records[-LEAST_EPOCHS:]]
    if len(last) == LEAST_EPOCHS and min(last) >= SATURATED_SHARE:
        found.append(
            "saturated pixels: in reconstructions of validation images, pixels are black or white "
            f"where the image is grey. {_less_saturation(settings)}"
        )
    return found


def warnings_of_run(
    run: dict[str, Any], records: list[dict[str, Any]], settings: TrainingSettings
) -> list[str]:
    """All warnings about a finished training: of its history, its spikes and its terms.

    `run`: the content of run.json, of which `dimension`, `spikes`, the terms of every split,
    `samples` and `linear_vae` (which may be None) are read.
    """
    found = [
        _worse_than_linear(run, settings),
        _few_active(run, settings),
        _saturated(run, settings),
    ]
    return [
        *_of_history(records, settings, run["dimension"]),
        *map(_of_spike, run["spikes"]),
        *(warning for warning in found if warning is not None),
    ]


def _of_history(
    records: list[dict[str, Any]],
    settings: TrainingSettings,
    dimension: int,
) -> list[str]:
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
    if _still_falls(records, settings, dimension):
        found.append(
            "not converged: the best epoch is the last one, and the validation objective still "
            f"falls. Raise training.epochs (it is {settings.epochs})"
        )
    return found


def _collapsed(records: list[dict[str, Any]], settings: TrainingSettings, dimension: int) -> bool:
    """No map is active behind the epoch whose weights are taken if the run ends here."""
    last = records[-1]
    if settings.takes_best:
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


def _still_falls(records: list[dict[str, Any]], settings: TrainingSettings, dimension: int) -> bool:
    """Whether the run ended at its last epoch while SSE + w KL was falling.

    That is positive, so that a relative fall is defined, under the ELBO too: there w is the last
    epoch's.
    """
    count = len(records)
    if count < max(FALL_EPOCHS, settings.epochs) or best_epoch(records, dimension) < count:
        return False
    weight = records[-1]["kl_weight"]
    losses = [objective(record, "valid", weight) for record in records]
    tenth = max(2, round(count / 10))
    last, before = losses[-tenth:], losses[-2 * tenth : -tenth]
    return sum(last) < (1 - STILL_FALLS) * sum(before)


def _of_spike(spike: dict[str, Any]) -> str:
    remedy = (
        "lower training.learning_rate, or set training.gradient_clip_norm or "
        "training.learning_rate_warmup_epochs"
    )
    if spike["rolled_back"]:
        return (
            f"spike in {described(spike)}. The training went back to the end of the epoch before "
            f"and continued with {spike['rate_factor']:g} of the learning rate. To avoid it, "
            f"{remedy}"
        )
    return (
        f"spike in {described(spike)}. The training continued (training.on_spike is ignore), and "
        f"the weights may not have recovered. Set training.on_spike to rollback, or {remedy}"
    )


def _worse_than_linear(run: dict[str, Any], settings: TrainingSettings) -> str | None:
    linear, terms = run["linear_vae"], run["train"]
    if linear is None:
        return None
    reached = terms["sse_per_image"] + linear["kl_weight"] * terms["kl_nats_per_image"]
    if reached <= WORSE * linear["objective_sse_plus_w_kl"]:
        return None
    found = (
        f"reconstructs worse than PCA: SSE + w KL of the training images is {reached:,.4g} at "
        f"w = {linear['kl_weight']:.3g}, that of a linear VAE, which needs no training, "
        f"{linear['objective_sse_plus_w_kl']:,.4g}. "
    )
    median, largest = terms["kl_nats_median"], terms["kl_nats_largest"]
    if terms["kl_nats_per_image"] > DOMINATED * median:
        return (
            f"{found}Few images dominate the KL (mean {terms['kl_nats_per_image']:,.4g} nats, "
            f"median {median:,.4g}, largest {largest:,.4g}): lower training.learning_rate, or set "
            "model.log_var_limit or training.gradient_clip_norm"
        )
    longer = f"{found}Train longer: raise training.epochs (it is {settings.epochs})"
    if settings.learning_rate_schedule == "constant":
        longer += ", or set training.learning_rate_schedule cosine"
    if settings.posterior != "vanilla":
        longer += (
            ". If that changes little, it is what the form of the latent costs: compare with "
            "posterior vanilla at the same w"
        )
    return longer


def _few_active(run: dict[str, Any], settings: TrainingSettings) -> str | None:
    """Next to the linear VAE's. Degrees of freedom: of the posterior mean of one map."""
    linear, terms = run["linear_vae"], run["test"]
    # Where no map is active, the posterior has collapsed, which has a warning of its own.
    if linear is None or linear["active_entries"] < LEAST_EXPECTED or terms["active_maps"] == 0:
        return None
    d = settings.latent_size
    freedom = 2 * d - 1 if settings.posterior == "low_rank" else d * d
    free = min(terms["active_entries"], terms["active_maps"] * freedom)
    if free >= FEW_ACTIVE * linear["active_entries"]:
        return None
    remedies = [f"raise training.epochs (it is {settings.epochs})", _less_pressure(settings)]
    if settings.initialization != "data":
        remedies.insert(0, f"set {DATA_INITIALIZATION}")
    if settings.posterior == "low_rank" and settings.low_rank_start != "ones":
        remedies.insert(0, "set model.low_rank_start ones")
    return (
        f"few active entries: {terms['active_entries']} of {terms['latent_entries']} entries, in "
        f"{terms['active_maps']} of {terms['latent_maps']} maps of {freedom} degrees of freedom, "
        f"carry information about the test images; a linear VAE at the same w has "
        f"{linear['active_entries']}. To use more of the latent, {', or '.join(remedies)}"
    )


def _saturated(run: dict[str, Any], settings: TrainingSettings) -> str | None:
    shares = {
        "reconstructions of validation images": run["valid"]["saturated_share"],
        "reconstructions of test images": run["test"]["saturated_share"],
        "samples": run["samples"]["saturated_share"],
    }
    shown = [f"{share:.2g} in {of}" for of, share in shares.items() if share >= SATURATED_SHARE]
    if not shown:
        return None
    return (
        "saturated pixels: pixels are black or white where the image, or in samples the pixels "
        f"around, are grey (share of the pixels: {', '.join(shown)}). {_less_saturation(settings)}"
    )


def _less_saturation(settings: TrainingSettings) -> str:
    remedy = f"Raise training.saturation_penalty (it is {settings.saturation_penalty:g})"
    if settings.initialization != "data":
        remedy += f", or set {DATA_INITIALIZATION}"
    return remedy
