"""Spikes: an epoch whose objective is far above the best one before it.

A few images, one latent map or one step of the optimizer can raise the objective by orders of
magnitude, and the weights may not recover. The criterion is J = SSE + w KL of training and of
validation images, with the w of the current epoch (under objective elbo, the equivalent w), so that
a change of the KL's weight by the decoder variance or a warm-up is not a spike.
"""

from collections.abc import Sequence
from typing import Any

SPIKE = 1.5  # times the smallest previous J
SETTLED = 50  # steps; before these, moving statistics and thus validation terms mean little
LOWER = 0.5  # factor on the learning rate after a rollback
MOST = 5  # rollbacks per training
DOMINATED = 1.5  # mean over median of a term: 1.2 in healthy runs, more if few images dominate
SPLITS = {"train": "training", "valid": "validation"}


def spike_of(before: Sequence[dict[str, Any]], record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the spike in the epoch of `record`, given the previous records; None if there is none.

    Keys: split, objective (J), best_before, and term: `sse` or `kl`, whichever rose more.
    """
    settled = [line for line in before if line["step"] >= SETTLED]
    weight = record["kl_weight"]
    for split, name in SPLITS.items():
        if not settled:
            break
        best = min(
            settled,
            # mypy infers no lambda that has a default.
            key=lambda line, split=split: objective(line, split, weight),  # type: ignore[misc]
        )
        now, then = (objective(line, split, weight) for line in (record, best))
        if now > SPIKE * then:
            terms = (_terms(line, split) for line in (record, best))
            (sse, kl), (sse_then, kl_then) = terms
            term = "sse" if sse - sse_then > weight * (kl - kl_then) else "kl"
            return {"split": name, "objective": now, "best_before": then, "term": term}
    return None


def _terms(record: dict[str, Any], split: str) -> tuple[float, float]:
    """SSE and KL per image."""
    return record[f"{split}_sse_per_image"], record[f"{split}_kl_nats_per_image"]


def objective(record: dict[str, Any], split: str, weight: float) -> float:
    """Return J = SSE + weight KL of `split`, train or valid, after the epoch of `record`."""
    sse, kl = _terms(record, split)
    return sse + weight * kl


def described(spike: dict[str, Any]) -> str:
    """Return a description of a spike: where, how much, which term, map and image."""
    where = f"epoch {spike['epoch']}"
    if spike["split"] is None:
        return f"{where}: the loss was not finite at step {spike['step']}"
    return (
        f"{where}: SSE + w KL of the {spike['split']} images was {spike['objective']:.4g}, "
        f"{spike['objective'] / spike['best_before']:.3g} times the best before it, because of the "
        f"{spike['term'].upper()}; the largest loss of a step was {spike['largest_loss']:.4g}, at "
        f"step {spike['step']}; the largest KL of a validation image was "
        f"{spike['kl_nats_largest']:.4g} nats (image {spike['kl_largest_image']}, most of it in "
        f"map {spike['kl_largest_map']}), the median {spike['kl_nats_median']:.4g}"
    )
