"""The figure of the training curves of all variants."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svae.figures.curves import Panel, training_curves
from svae.jobs.files import read_json
from svae.report.png import save
from svae.training.history import objectives, read_history

WEIGHTED = "objective: SSE + w KL\n(squared pixel units per image)"
ELBO = "objective: negative ELBO,\nbeta times KL (nats per image)"
MSE = "MSE per pixel\n(pixels on [-1, 1])"
KL = "KL\n(nats per image)"
MAPS = "active latent maps"
RATE = "learning rate"


def draw(variants: Sequence[str], records: Sequence[Path | str], target: Path | str) -> None:
    """Write the figure as a PNG.

    `records`: the run.json of each variant, with its history in the same folder. The panels of
    SSE + w KL and of the negative ELBO are separate; there is none of a learning rate that is the
    same for all variants and epochs.
    """
    panels: dict[str, Panel] = {
        WEIGHTED: Panel(wide=True),
        ELBO: Panel(),
        MSE: Panel(wide=True),
        KL: Panel(from_zero=True),
        MAPS: Panel(from_zero=True),
        RATE: Panel(from_zero=True),
    }
    chosen = {}
    for variant, path in zip(variants, records, strict=True):
        run = read_json(path)
        label = _label(variant, run)
        history = read_history(Path(path).parent, run.get("history_sha256"))
        for axis, curves in _curves(run, history).items():
            panels[axis].curves[label] = curves
        if run["weights_of_epoch"] < run["epochs_trained"]:
            chosen[label] = run["weights_of_epoch"]
    rates = {rate for curves in panels[RATE].curves.values() for rate in curves["training"]}
    if len(rates) == 1:
        del panels[RATE]
    shown = {axis: panel for axis, panel in panels.items() if panel.curves}
    # All runs of the figure have one data set and seed.
    title = f"{run['dataset']}: training of each variant (seed {run['seed']})"
    save(training_curves(shown, chosen, title), target)


def _label(variant: str, run: dict[str, Any]) -> str:
    """The variant; with objective weighted also its w, on which the objective's value depends."""
    return variant if run["objective"] == "elbo" else f"{variant} (w = {run['kl_weight']:.3g})"


def _curves(
    run: dict[str, Any], history: list[dict[str, Any]]
) -> dict[str, dict[str, list[float]]]:
    """Axis -> training, validation or both -> one value per epoch."""
    dimension = run["dimension"]
    losses = [objectives(record, dimension) for record in history]

    def values(key: str) -> list[float]:
        return [record[key] for record in history]

    return {
        ELBO if run["objective"] == "elbo" else WEIGHTED: {
            "training": [loss["train"] for loss in losses],
            "validation": [loss["valid"] for loss in losses],
        },
        MSE: {
            "training": [sse / dimension for sse in values("train_sse_per_image")],
            "validation": values("valid_mse_per_pixel"),
        },
        KL: {
            "training": values("train_kl_nats_per_image"),
            "validation": values("valid_kl_nats_per_image"),
        },
        MAPS: {"validation": values("valid_active_maps")},
        RATE: {"training": values("learning_rate")},
    }
