"""Warnings about a training that went wrong without an error, each with a remedy.

The thresholds separate runs that were inspected on faces (64x64x3) and CIFAR-10: healthy runs are
below them, runs with wrong pictures or terms are above.
"""

import math
from typing import Any

from svae.settings.training import TrainingSettings
from svae.training.history import best_epoch, objectives
from svae.training.spikes import DOMINATED, described, objective

LEAST_EPOCHS = 3  # before a run is called dead
LEAST_GAIN = 0.01  # of the mean squared error
# More than the noise of an epoch's error with few training images.
CLEAR_GAIN = 0.05
# Times the linear VAE's SSE + w KL. Well-trained vectors reach 0.98 (faces, w = 21), 0.996 (faces,
# w = 192) and 1.002 (CIFAR-10, w = 48); at a constant learning rate the second reached 1.035.
WORSE = 1.02
# The last tenth of the epochs is compared with the tenth before it, because single epochs differ by
# 2 % and more at a constant learning rate. Runs whose learning rate ended at 0 fell by 0.1 % and
# 0.3 %, and by up to 1.3 % at two thirds of their epochs.
STILL_FALLS = 0.01
FALL_EPOCHS = 5  # before a fall is judged
# Healthy runs have between 0.6 and 9 times the linear VAE's active entries; a low-rank latent with
# one map left has less than half.
FEW_ACTIVE = 0.5
LEAST_EXPECTED = 8  # active entries of the linear VAE; half of fewer would be only one to three
# Healthy runs have none. At this share, one pixel in eight images of 64x64x3, they are visible in a
# grid of pictures.
SATURATED_SHARE = 1e-5
SATURATED_EPOCHS = 5  # in a row, before a training warns of them

DATA_INITIALIZATION = "model.initialization data"


def warnings_of(
    records: list[dict[str, Any]], settings: TrainingSettings, dimension: int
) -> list[str]:
    """Return the warnings about the history of a run, one record per epoch; often none.

    A warning has the same text at every epoch where it applies; spikes are reported when they
    happen. `dimension`: D, pixels per image times channels.
    """
    if not records:
        return []
    found = _of_history(records, settings, dimension)
    # Healthy runs may have some in each of their first three epochs, so all of the last ones must.
    last = [record["valid_saturated_share"] for record in records[-SATURATED_EPOCHS:]]
    if len(last) == SATURATED_EPOCHS and min(last) >= SATURATED_SHARE:
        found.append(
            "saturated pixels: in reconstructions of validation images, pixels are black or white "
            f"where the image is grey. {_less_saturation(settings)}"
        )
    return found


def warnings_of_run(
    run: dict[str, Any], records: list[dict[str, Any]], settings: TrainingSettings
) -> list[str]:
    """Return all warnings about a finished training: its history, its spikes and its terms.

    `run`: the content of run.json; this reads `dimension`, `spikes`, the terms of every split,
    `samples` and `linear_vae` (may be None).
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
            "carries no information about an image, so all reconstructions look alike, and the "
            "decoder nearly ignores what is drawn from the prior. Try "
            f"{_less_pressure(settings)}, a longer training.kl_warmup_epochs, or more epochs if "
            "there were few"
        )
    if _dead(records, settings, dimension):
        found.append(
            "dead run: the validation loss and the training error have been flat from the start: "
            "the model learns nothing. Try another training.learning_rate (now "
            f"{settings.learning_rate:g}): a larger one, or a smaller one if the loss jumped up in "
            "the first steps"
        )
    if _still_falls(records, settings, dimension):
        found.append(
            "not converged: the best epoch is the last one, and the validation objective is still "
            f"falling. Raise training.epochs (now {settings.epochs})"
        )
    return found


def _collapsed(records: list[dict[str, Any]], settings: TrainingSettings, dimension: int) -> bool:
    """No map is active after the epoch whose weights are used if the run ends here."""
    last = records[-1]
    if settings.takes_best:
        last = min(records, key=lambda record: objectives(record, dimension)["valid"])
    return last["valid_active_maps"] == 0


def _less_pressure(settings: TrainingSettings) -> str:
    if settings.objective == "weighted":
        return f"a smaller training.kl_weight (now {settings.kl_weight:g})"
    beta = f"a smaller training.beta (now {settings.beta:g})"
    if isinstance(settings.decoder_variance, str):
        return beta
    return f"{beta}, a smaller training.decoder_variance (now {settings.decoder_variance:g})"


def _dead(records: list[dict[str, Any]], settings: TrainingSettings, dimension: int) -> bool:
    """Neither the validation objective nor the training error fell noticeably after epoch 1.

    The training error distinguishes a dead run from two healthy ones: one that converged within
    epoch 1, whose mean error includes the descent and is thus above all later ones; and one whose
    KL grows as fast as its error falls. During a warm-up no run is judged.
    """
    warmup = max(settings.learning_rate_warmup_epochs, settings.kl_warmup_epochs)
    if len(records) - math.ceil(warmup) < LEAST_EPOCHS:
        return False
    losses = [objectives(record, dimension)["valid"] for record in records]
    errors = [record["train_sse_per_image"] for record in records]
    # -0.5 D log(1 - 0.01): the gain in nats from 1 % less error at the best variance.
    gain = LEAST_GAIN * (losses[0] if settings.objective == "weighted" else dimension / 2)
    first, *later = errors
    learns = max(later) < (1 - LEAST_GAIN) * first or min(later) < (1 - CLEAR_GAIN) * first
    return min(losses) > losses[0] - gain and not learns


def _still_falls(records: list[dict[str, Any]], settings: TrainingSettings, dimension: int) -> bool:
    """Whether SSE + w KL was still falling when the run ended at its last epoch.

    SSE + w KL is positive, so a relative decrease is defined. Under objective elbo, w is the
    equivalent of the last epoch.
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
            f"spike in {described(spike)}. The training went back to the end of the previous epoch "
            f"and continued with {spike['rate_factor']:g} times the learning rate. To avoid it, "
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
        f"w = {linear['kl_weight']:.3g}, while a linear VAE, which needs no training, reaches "
        f"{linear['objective_sse_plus_w_kl']:,.4g}. "
    )
    median, largest = terms["kl_nats_median"], terms["kl_nats_largest"]
    if terms["kl_nats_per_image"] > DOMINATED * median:
        return (
            f"{found}Few images dominate the KL (mean {terms['kl_nats_per_image']:,.4g} nats, "
            f"median {median:,.4g}, largest {largest:,.4g}): lower training.learning_rate, or set "
            "model.log_var_limit or training.gradient_clip_norm"
        )
    longer = f"{found}Train longer: raise training.epochs (now {settings.epochs})"
    if settings.learning_rate_schedule == "constant":
        longer += ", or set training.learning_rate_schedule cosine"
    if settings.posterior != "vanilla":
        longer += (
            ". If that changes little, the gap is the cost of the latent's form: compare with "
            "posterior vanilla at the same w"
        )
    return longer


def _few_active(run: dict[str, Any], settings: TrainingSettings) -> str | None:
    """Compare with the linear VAE. Degrees of freedom: those of the posterior mean of one map."""
    linear, terms = run["linear_vae"], run["test"]
    # If no map is active, the posterior has collapsed, which has its own warning.
    if linear is None or linear["active_entries"] < LEAST_EXPECTED or terms["active_maps"] == 0:
        return None
    d = settings.latent_size
    rank = settings.rank if settings.posterior == "low_rank" else d
    freedom = rank * (2 * d - rank)  # of d x d matrices of this rank
    free = min(terms["active_entries"], terms["active_maps"] * freedom)
    if free >= FEW_ACTIVE * linear["active_entries"]:
        return None
    remedies = [f"raise training.epochs (now {settings.epochs})", _less_pressure(settings)]
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
        "saturated pixels: pixels are black or white where the image (in samples: the surrounding "
        f"pixels) is grey (share of pixels: {', '.join(shown)}). {_less_saturation(settings)}"
    )


def _less_saturation(settings: TrainingSettings) -> str:
    remedy = f"Raise training.saturation_penalty (now {settings.saturation_penalty:g})"
    if settings.initialization != "data":
        remedy += f", or set {DATA_INITIALIZATION}"
    return remedy
