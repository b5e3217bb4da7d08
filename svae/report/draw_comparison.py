"""The figure of the paper: training images, then the first samples of each variant, a caption.

Contrast is not changed: -1 is black and 1 is white.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from svae.datasets.store import Store
from svae.figures.grids import APART, GAP, NARROW, Row, labelled_rows
from svae.jobs.files import read_json
from svae.pixels import to_bytes
from svae.report.png import save
from svae.report.seeds import by_variant
from svae.sampling.file import fitted_prior, samples_of


def draw(
    store_path: Path | str,
    variants: Sequence[str],
    records: Sequence[Path | str],
    samples: Sequence[Path | str],
    columns: int,
    training_images: bool,
    target: Path | str,
) -> None:
    """Write the comparison figure, as a PNG.

    records, samples: run.json and samples.h5 of all seeds shown, variant by variant. columns: most
    images in a row. training_images: whether they have a row; the terms of some data sets forbid
    publishing them.

    UserError if samples belong to another run than their record, or to another data set.
    """
    runs = [read_json(path) for path in records]
    with Store(store_path) as store:
        title = f"{store.attributes['title']} ({store.shape[0]}x{store.shape[1]})"
        training = store.images("train", columns if training_images else 0)
        images, priors = [], []
        for path, run in zip(samples, runs, strict=True):
            with samples_of(path, run, store.checksum) as drawn:
                images.append(to_bytes(drawn[:columns]))
                priors.append(fitted_prior(drawn))
        text = caption(store.attributes, len(training), len(images[0]), runs, priors[0])
    rows = [Row("training images", training, below=APART)] if training_images else []
    shared = by_variant(variants, list(zip(runs, images, strict=True)))
    for variant, shown in shared.items():
        rows += variant_rows(variant, shown)
    rows[-1] = rows[-1]._replace(below=GAP)
    save(labelled_rows(rows, f"{title}: samples of each variant", text), target)


def variant_rows(variant: str, shown: Sequence[tuple[Mapping[str, Any], np.ndarray]]) -> list[Row]:
    """Return the rows of one variant: one per seed, close together, the first with the name.

    shown: for each seed, run.json and samples as uint8 (columns, height, width, channel).
    """
    if len(shown) == 1:
        ((run, images),) = shown
        return [Row(variant, images, details=[weight_and_rate(run)])]
    rows = [
        Row("", images, NARROW, details=[f"seed {run['seed']}", weight_and_rate(run)])
        for run, images in shown
    ]
    rows[0] = rows[0]._replace(label=variant)
    rows[-1] = rows[-1]._replace(below=APART)
    return rows


def weight_and_rate(run: Mapping[str, Any]) -> str:
    """Return w, the KL weight, with 3 digits, and the rate, the mean KL of a test image."""
    w = run["kl_weight"]
    # Without an exponent, which the format g would use for large numbers.
    shown = f"{w:,.0f}" if w >= 100 else f"{w:.3g}"
    return f"w = {shown}, rate {run['test']['kl_nats_per_image']:.1f} nats"


def caption(
    attributes: Mapping[str, Any],
    images: int,
    samples: int,
    runs: Sequence[Mapping[str, Any]],
    prior: str | None = None,
) -> str:
    """Return the caption: which pictures are shown, training lengths, meaning of w and rate.

    attributes: those of the store. images, samples: numbers of training images (0: no such row) and
    of samples of each run. runs: the run.json of every row. prior: what the latents were drawn
    from, if not N(0, I); it is the same for all runs.
    """
    counts = attributes["counts"]
    each = "each variant and seed" if len(_seeds(runs)) > 1 else "each variant"
    drawn = (
        f"he {_first(samples)} sample{'' if samples == 1 else 's'} of {each} in the order drawn; "
        "none was chosen."
    )
    of = f"{counts['train']:,} training images of {attributes['title']}."
    sentences = [
        *(
            [f"Top row: the {_first(images)} of {of}", f"Below: t{drawn}"]
            if images
            else [f"T{drawn}"]
        ),
        *([f"Latents of the samples: {prior}."] if prior else []),
        f"{_training(runs)}{'.' if images else f', on {of}'}",
        f"{_weight(runs)}, and the rate, the mean KL over {counts['test']:,} test images.",
    ]
    if attributes.get("source_matches_official") is False:
        sentences.append("The source files are not the official ones.")
    return " ".join(sentences)


def _first(count: int) -> str:
    return "first" if count == 1 else f"first {count}"


def _seeds(runs: Sequence[Mapping[str, Any]]) -> list[int]:
    return list(dict.fromkeys(run["seed"] for run in runs))


def _training(runs: Sequence[Mapping[str, Any]]) -> str:
    """The seeds and the lengths of the trainings, by variant or run if lengths differ."""
    seeds = ", ".join(map(str, _seeds(runs)))
    start = f"Trained with seed{'s' if len(_seeds(runs)) > 1 else ''} {seeds}"
    of_variant: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        of_variant.setdefault(run["variant"], []).append(run)
    names: dict[str, list[str]] = {}
    for variant, its in of_variant.items():
        if len(set(map(_length, its))) == 1:
            names.setdefault(_length(its[0]), []).append(variant)
        else:
            for run in its:
                names.setdefault(_length(run), []).append(f"{variant} (seed {run['seed']})")
    if len(names) == 1:
        return f"{start} for {next(iter(names))}"
    parts = [f"{', '.join(those)} for {length}" for length, those in names.items()]
    return f"{start}: {'; '.join(parts)}"


def _length(run: Mapping[str, Any]) -> str:
    epochs, steps, best = run["epochs_trained"], run["steps"], run["weights_of_epoch"]
    text = f"{_count(epochs, 'epoch')} ({_count(steps, 'step')})"
    return text if best == epochs else f"{text}, weights of epoch {best:,}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _weight(runs: Sequence[Mapping[str, Any]]) -> str:
    under_elbo = any(run["objective"] == "elbo" for run in runs)
    # The formula stays on one line.
    return "Next to each row: w, the KL weight in the objective SSE\xa0+\xa0w\xa0KL" + (
        " or its equivalent under the ELBO" if under_elbo else ""
    )
