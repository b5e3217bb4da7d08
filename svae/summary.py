"""The table of all variants, as CSV with every column and as Markdown to read."""

import csv as csv_module
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from svae.diagnosis import warnings_of_run
from svae.errors import UserError
from svae.files import read_json, replacing

REFERENCE = "vanilla"


def summarise(
    variants: Sequence[str],
    scores: Sequence[Path | str],
    per_image: Sequence[Path | str],
    records: Sequence[Path | str],
    csv: Path | str,
    markdown: Path | str,
) -> None:
    """Write one row a variant. Paths in the order of `variants`: parzen.json, per-image, run.json.

    Differences are to `vanilla`, or to the first variant where there is none of that name.
    """
    results = [read_json(path) for path in scores]
    # Judged anew, so that an edit of the judgement or of its words needs no training.
    runs = [{**read_json(path), "warnings": warnings_of_run(path)} for path in records]
    likelihoods = [np.load(path, allow_pickle=False)["log_likelihood"] for path in per_image]
    reference = REFERENCE if REFERENCE in variants else variants[0]
    base = likelihoods[list(variants).index(reference)]
    rows = [
        _row(result, run, reference, *paired_difference(values, base))
        for result, run, values in zip(results, runs, likelihoods, strict=True)
    ]
    text = io.StringIO()
    writer = csv_module.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(csv) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    with replacing(markdown) as temporary:
        temporary.write_text(_markdown(rows, results, runs), encoding="utf-8")


def paired_difference(values: np.ndarray, base: np.ndarray) -> tuple[float, float]:
    """Mean of values - base over the same test images, and its standard error, in nats.

    UserError if the two were scored on different numbers of images.
    """
    if values.shape != base.shape:
        raise UserError(
            f"scores of {len(values)} and of {len(base)} test images cannot be paired; "
            f"delete results/ and run snakemake again"
        )
    difference = values - base
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def _row(
    result: dict[str, Any], run: dict[str, Any], reference: str, difference: float, error: float
) -> dict[str, Any]:
    return {
        "variant": result["variant"],
        "posterior": run["settings"]["posterior"],
        "log_likelihood_nats": result["log_likelihood"],
        "standard_error_nats": result["standard_error"],
        "reference": reference,
        "paired_difference_nats": difference,
        "paired_standard_error_nats": error,
        "bits_per_dim": result["bits_per_dim"],
        "sigma": result["sigma"],
        "sigma_at_grid_edge": result["sigma_at_grid_edge"],
        "kl_weight": result["kl_weight"],
        "equivalent_variance_at_unit_beta": result["equivalent_variance_at_unit_beta"],
        "equivalent_beta_at_unit_variance": result["equivalent_beta_at_unit_variance"],
        "decoder_variance": result["decoder_variance"],
        "test_kl_nats": run["test"]["kl_nats_per_image"],
        "test_sse": run["test"]["sse_per_image"],
        "test_mse_per_pixel": run["test"]["mse_per_pixel"],
        "test_elbo_nats": run["test"].get("elbo_nats_per_image"),
        "active_entries": run["test"]["active_entries"],
        "latent_entries": run["test"]["latent_entries"],
        "active_maps": run["test"]["active_maps"],
        "latent_maps": run["test"]["latent_maps"],
        "parameters": run["parameters"],
        "training_seconds": run["training_seconds"],
        "epochs": run["epochs"],
        "epochs_trained": run["epochs_trained"],
        "weights_of_epoch": run["weights_of_epoch"],
        "objective": run["objective"],
        "seed": run["seed"],
        "n_samples": result["n_samples"],
        "n_valid": result["n_valid"],
        "n_test": result["n_test"],
        "protocol": result["protocol"],
        "dataset": result["dataset"],
        "dataset_checksum": result["dataset_checksum"],
        "warnings": "; ".join(run["warnings"]),
    }


def _markdown(
    rows: list[dict[str, Any]], results: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> str:
    first, result = rows[0], results[0]
    reference = first["reference"]
    elbo = any(row["objective"] == "elbo" for row in rows)
    columns = {
        "variant": lambda r: r["variant"],
        "Parzen log-likelihood (nats)": lambda r: (
            f"{r['log_likelihood_nats']:.1f} ± {r['standard_error_nats']:.1f}"
        ),
        f"difference to {reference} (nats)": lambda r: (
            "-"
            if r["variant"] == reference
            else f"{r['paired_difference_nats']:+.1f} ± {r['paired_standard_error_nats']:.1f}"
        ),
        "sigma": lambda r: f"{r['sigma']:.3f}" + (" (edge)" if r["sigma_at_grid_edge"] else ""),
        "KL weight w": lambda r: f"{r['kl_weight']:.3g}",
        "KL (nats)": lambda r: f"{r['test_kl_nats']:.2f}",
        "SSE": lambda r: f"{r['test_sse']:.1f}",
        "MSE per pixel": lambda r: f"{r['test_mse_per_pixel']:.4f}",
        **({"ELBO (nats)": lambda r: _optional(r["test_elbo_nats"])} if elbo else {}),
        "active entries": lambda r: f"{r['active_entries']} of {r['latent_entries']}",
        "active maps": lambda r: f"{r['active_maps']} of {r['latent_maps']}",
        "parameters": lambda r: f"{r['parameters']:,}",
        "training (s)": lambda r: f"{r['training_seconds']:.0f}",
    }
    lines = [
        f"# {first['dataset']}: one row a variant",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + " --- |" * len(columns),
        *("| " + " | ".join(show(row) for show in columns.values()) + " |" for row in rows),
        "",
        f"Parzen-window log-likelihood in nats per image, for pixels on [-1, 1]: "
        f"{first['n_samples']:,} samples, sigma chosen on {_choosing(first)}, mean and standard "
        f"error over {first['n_test']:,} test images (protocol `{first['protocol']}`). Objective "
        f"{', '.join(sorted({row['objective'] for row in rows}))}; seed {first['seed']}; "
        f"{_span([row['epochs'] for row in rows])} epochs.",
        *_ended_early(rows, runs),
        "",
        "Standard errors, those of the paired differences too, cover the choice of test images "
        "alone: samples drawn anew and trainings with other seeds add a spread of their own. With "
        "one seed, differences between variants are not yet established.",
        "",
        "w: weight of the KL in SSE + w KL; it equals a decoder variance of w / 2 at beta = 1, or "
        "beta = w / 2 at variance 1. KL, SSE and MSE are per test image, SSE and MSE from one "
        "posterior sample each; an entry is active if its posterior mean varies over the test "
        "images by more than 0.01, a map if any of its entries is. Batch norm in the samples: "
        f"{result['batch_norm']} statistics.",
    ]
    for row, run in zip(rows, runs, strict=True):
        for warning in run["warnings"]:
            lines += ["", f"**Warning:** {row['variant']}: {warning}."]
    edges = [row["variant"] for row in rows if row["sigma_at_grid_edge"]]
    if edges:
        lines += [
            "",
            f"**Warning:** sigma lies at the edge of its grid for {', '.join(edges)}; widen "
            "parzen.sigma_log10_min or parzen.sigma_log10_max.",
        ]
    notes = sorted({r["dataset_source_note"] for r in results if r["dataset_source_note"]})
    for note in notes:
        lines += ["", f"**Warning:** {note}"]
    lines += ["", f"Data checksum (SHA-256 of the pixels): `{first['dataset_checksum']}`."]
    return "\n".join(lines) + "\n"


def _ended_early(rows: list[dict[str, Any]], runs: list[dict[str, Any]]) -> list[str]:
    """A paragraph about the runs that early stopping ended, or nothing."""
    ended = [
        f"{row['variant']} after {row['epochs_trained']} epochs (weights of epoch "
        f"{row['weights_of_epoch']})"
        for row, run in zip(rows, runs, strict=True)
        if run["early_stopped"]
    ]
    if not ended:
        return []
    return [
        "",
        f"Ended by early stopping, since the validation objective no longer improved: "
        f"{'; '.join(ended)}.",
    ]


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _choosing(row: dict[str, Any]) -> str:
    if row["protocol"] == "paper":
        return f"blocks of {row['n_valid']:,} test images, one for each sigma"
    return f"{row['n_valid']:,} validation images"


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
