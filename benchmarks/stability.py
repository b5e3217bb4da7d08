"""Makes the tables and the figure of finished runs in docs/training.md.

    python benchmarks/stability.py TARGET STORE LABEL=RUNS [LABEL=RUNS ...]

STORE is the h5 store of the data set. Each RUNS is a folder of its runs, such as runs/celeba, and
LABEL names their settings. Writes TARGET_runs.csv, one line per run: objective of each split, the
largest ratio of an epoch's objective to the best before it, the ratio of the last to the best,
shares of saturated pixels, active maps, median and largest KL; TARGET_layers.csv, the largest
activation after each decoder layer, for validation images and for prior samples; TARGET_means.csv,
the objective of test images over seeds; and TARGET.png: the validation objective by epoch, and
these activations by layer.
"""

import argparse
import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from svae.datasets.store import Store
from svae.model import keyed_random
from svae.model.vae import SpatialVAE, scaled
from svae.settings.training import TrainingSettings
from svae.streams import Stream
from svae.training import history
from svae.training.run_folder import RunFolder
from svae.training.terms import Evaluator

IMAGES = 500  # validation images, and prior samples
# The values in effect for runs that were trained before these settings existed.
PUBLISHED = {
    "low_rank_start": None,
    "log_var_limit": None,
    "initialization": "published",
    "saturation_penalty": 0.0,
    "on_spike": "ignore",
    "weights": "last",
}


def model_of(run: RunFolder, record: dict[str, Any]) -> SpatialVAE:
    settings = TrainingSettings(**PUBLISHED | record["settings"])
    model = SpatialVAE(tuple(record["image_shape"]), record["padding"], settings, record["seed"])
    model.load_weights(run.weights)
    return model


def layers_of(model: SpatialVAE, images: np.ndarray) -> list[dict[str, Any]]:
    """Return the largest activation after each decoder block; the last is the input of tanh."""
    posterior = model.encode(scaled(tf.constant(images)))
    latents = {
        "validation images": model.sample_posterior(posterior, Stream.EVALUATION_LATENTS, 0),
        "prior samples": model.prior.sample(
            keyed_random.normal(
                (IMAGES, *model.latent_shape),
                keyed_random.key(model.seed, Stream.SATURATION_LATENTS, 0),
            )
        ),
    }
    rows = []
    for name, values in latents.items():
        for number, block in enumerate(model.decoder.blocks, 1):
            values = block(values)
            a = values.numpy()
            spread = (a - a.mean((0, 1, 2))) / a.std((0, 1, 2))
            rows.append(
                {
                    "of": name,
                    "layer": number,
                    "largest": float(np.max(abs(a))),
                    "kurtosis": float(np.max((spread**4).mean((0, 1, 2)))),
                }
            )
    return rows


def reach_of(model: SpatialVAE, images: np.ndarray) -> np.ndarray:
    """Return how far one step of Adam can move an encoder output of each image.

    It is the rate times the sum of the absolute features, if the signs of the weights' steps equal
    those of the features.
    """
    p = model.padding
    x = scaled(tf.constant(images))
    x = tf.pad(x, [[0, 0], [p, p], [p, p], [0, 0]], constant_values=-1.0)
    for block in model.encoder.blocks:
        x = block(x)
    return model.settings.learning_rate * tf.reduce_sum(abs(x), [1, 2, 3]).numpy()


def course(records: list[dict[str, Any]], dimension: int) -> dict[str, float]:
    """Return ratios of the objective by epoch to its best; the first epoch has no ratio."""
    found = {}
    for split in ("train", "valid"):
        values = [history.objectives(record, dimension)[split] for record in records]
        best = np.minimum.accumulate(values)
        ratios = np.array(values[1:]) / best[:-1]
        found[f"largest_{split}_ratio"] = float(ratios.max()) if len(ratios) else np.nan
        found[f"last_{split}_to_best"] = values[-1] / best[-1]
    return found


def row_of(label: str, run: RunFolder, store: Store) -> tuple[dict, list[dict], list[float]]:
    identity = json.loads(run.identity.read_text())
    records = history.read_history(run.path)
    variant = run.path.parent.name
    row: dict[str, Any] = {"label": label, "variant": variant, "seed": identity["seed"]}
    dimension = int(np.prod(store.shape))
    curve = [history.objectives(record, dimension)["valid"] for record in records]
    row |= {"epochs": len(records), "steps": records[-1]["step"], **course(records, dimension)}
    if not run.record.exists():
        return row | {"ended": "not finite"}, [], curve
    record = json.loads(run.record.read_text())
    model = model_of(run, record)
    evaluator = Evaluator(model)
    terms = {split: evaluator(store.split(split)) for split in ("valid", "test")}
    row |= {"ended": "finished", "w": record["kl_weight"]}
    train = record["train"]
    row["train_objective"] = train["sse_per_image"] + row["w"] * train["kl_nats_per_image"]
    for split, found in terms.items():
        row[f"{split}_objective"] = found["sse_per_image"] + row["w"] * found["kl_nats_per_image"]
    test = terms["test"]
    reach = reach_of(model, store.images("valid", IMAGES))
    row |= {
        "test_sse": test["sse_per_image"],
        "test_kl": test["kl_nats_per_image"],
        "train_kl": train["kl_nats_per_image"],
        "test_kl_median": test["kl_nats_median"],
        "test_kl_largest": test["kl_nats_largest"],
        "active_maps": test["active_maps"],
        "active_entries": test["active_entries"],
        "saturated_share_of_reconstructions": test["saturated_share"],
        "saturated_share_of_samples": evaluator.saturated_samples()["saturated_share"],
        "adam_reach_median": float(np.median(reach)),
        "adam_reach_largest": float(np.max(reach)),
        "spikes": len(record.get("spikes", [])),
        "training_seconds": record["training_seconds"],
    }
    layers = layers_of(model, store.images("valid", IMAGES))
    key = {"label": label, "variant": variant, "seed": row["seed"]}
    return row, [{**key, **layer} for layer in layers], curve


def means_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean over seeds and its standard error, where there are several."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["ended"] == "finished":
            key = row["label"], row["variant"]
            found.setdefault(key, []).append(float(row["test_objective"]))
    return [
        {
            "label": label,
            "variant": variant,
            "seeds": len(values),
            "test_objective": statistics.mean(values),
            "standard_error": statistics.stdev(values) / math.sqrt(len(values)),
        }
        for (label, variant), values in found.items()
        if len(values) > 1
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def draw(path: Path, curves: dict[tuple[str, str, int], list[float]], layers: list[dict]) -> None:
    """Draw the figure; curves above the panel are marked at its top with their largest value."""
    labels = list(dict.fromkeys(label for label, _, _ in curves))
    variants = sorted({variant for _, variant, _ in curves})
    colours = {variant: f"C{i}" for i, variant in enumerate(variants)}
    ends = [curve[-1] for curve in curves.values()]
    limits = 0.95 * min(ends), 4 * float(np.median(ends))
    figure, axes = plt.subplots(
        2,
        len(labels),
        figsize=(5 * len(labels), 7.5),
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for column, label in enumerate(labels):
        top, bottom = axes[:, column]
        for (own, variant, seed), curve in curves.items():
            if own != label:
                continue
            style = {"color": colours[variant], "lw": 1}
            top.plot(range(1, len(curve) + 1), curve, **style)
            if len(curve) > 1 and max(curve[1:]) > limits[1]:
                epoch = 2 + int(np.argmax(curve[1:]))
                top.plot(epoch, limits[1], "^", color=colours[variant], clip_on=False)
                text = f"{variant}: up to {max(curve):.0e}"
                place = {"xytext": (-8, -14), "textcoords": "offset points", "ha": "right"}
                top.annotate(text, (epoch, limits[1]), fontsize="small", **place)
            key = (label, variant, seed, "validation images")
            names = ("label", "variant", "seed", "of")
            found = [row["largest"] for row in layers if tuple(row[n] for n in names) == key]
            # The vanilla stem has one more layer at the start.
            bottom.plot(range(-len(found), 0), found, "o-", ms=3, **style)
        top.set(title=label, ylim=limits, yscale="log", xlabel="epoch")
        bottom.set(yscale="log", xlabel="decoder layer; -1: input of tanh")
        bottom.axhline(4, color="grey", lw=0.8, ls=":")
        for axis in (top, bottom):
            axis.grid(alpha=0.3, which="both")
    axes[0, 0].set_ylabel("SSE + w KL, validation images")
    axes[1, 0].set_ylabel(f"largest activation, {IMAGES} validation images")
    for variant, colour in colours.items():
        axes[0, 0].plot([], [], color=colour, label=variant)
    axes[0, 0].legend(fontsize="small", loc="upper right")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("runs", nargs="+", metavar="LABEL=RUNS")
    arguments = parser.parse_args()
    rows, layers, curves = [], [], {}
    with Store(arguments.store) as store:
        for label, folder in (item.split("=", 1) for item in arguments.runs):
            for path in sorted(Path(folder).glob("*/seed-*")):
                if not (path / history.NAME).exists() or "set-aside" in path.name:
                    continue
                row, own, curve = row_of(label, RunFolder(path), store)
                rows.append(row)
                layers += own
                curves[label, row["variant"], row["seed"]] = curve
                print(json.dumps(row), flush=True)
    write(arguments.target.with_name(f"{arguments.target.name}_runs.csv"), rows)
    write(arguments.target.with_name(f"{arguments.target.name}_layers.csv"), layers)
    write(arguments.target.with_name(f"{arguments.target.name}_means.csv"), means_of(rows))
    draw(arguments.target.with_suffix(".png"), curves, layers)


if __name__ == "__main__":
    main()
