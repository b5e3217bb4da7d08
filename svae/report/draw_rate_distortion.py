"""Rate and distortion of all runs of one data set: a figure, a table of runs, and the families."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from svae.datasets.store import Store
from svae.errors import UserError
from svae.figures.rate_distortion import Dot, Group, rate_distortion
from svae.jobs.files import replacing, write_json
from svae.report.log_ratios import FamilyCurve, Measured, Point, Rates, mean_and_error, rates
from svae.report.png import save
from svae.report.seeds import by_variant
from svae.report.study import Run
from svae.scores.linear_vae_curve import LinearVaes, coordinates, expected
from svae.scores.spectrum import load

SAMPLES = 200  # rates at which the curves of linear VAEs are drawn
MEANING = (
    "log_ratio: natural logarithm of the SSE over that of the linear VAE with as many latent "
    "entries at the same rate, on the same images; its mean is over the logarithm of the common "
    "rates. sse: at the common rate, interpolated. Test images."
)


def draw(
    store: Path | str,
    spectrum: Path | str,
    variants: Sequence[str],
    seeds: Sequence[int],
    families: Mapping[str, Sequence[str]],
    records: Sequence[Path | str],
    objectives: Sequence[Path | str],
    per_image: Sequence[Path | str],
    *,
    figure: Path | str,
    table: Path | str,
    summary: Path | str,
) -> None:
    """Write the figure as a PNG, one row per run as CSV, and one entry per family as JSON.

    records, objectives, per_image: run.json, and the JSON and npz files of the score `objective`,
    of all seeds of the first variant, then of the next. families: name -> its variants.

    UserError if the spectrum belongs to other images than the store, or if values of single images
    are not of its test images.
    """
    read = [
        Run.read(record, {"objective": objective}, {"objective": images})
        for record, objective, images in zip(records, objectives, per_image, strict=True)
    ]
    runs = {name: list(map(_measured, each)) for name, each in by_variant(variants, read).items()}
    fitted = load(spectrum)
    entries = sorted({run.latent_entries for each in runs.values() for run in each})
    with Store(store) as opened:
        title = opened.attributes["title"]
        if fitted.dataset_checksum != opened.checksum:
            raise UserError(
                f"{spectrum} belongs to other images than {store}; delete it and run snakemake"
            )
        test = coordinates(fitted, opened.images("test"), entries[-1])
    for run, path in zip((run for each in runs.values() for run in each), per_image, strict=True):
        if len(run.kl) != len(test.rest):
            raise UserError(
                f"{path} has values of {len(run.kl)} images, but {store} has {len(test.rest)} test "
                f"images; delete it and run snakemake"
            )
    train = {count: expected(fitted, count) for count in entries}
    found = rates(runs, families, test, train)
    _write_table(found, seeds, families, table)
    write_json(summary, _summary(found, seeds, families))
    listed = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    drawn = rate_distortion(
        _groups(found, families),
        _curves(found, {count: test.first(count).mean() for count in entries}),
        found.common,
        f"{title}: rate and distortion of test images ({listed})",
    )
    save(drawn, figure)


def _measured(run: Run) -> Measured:
    objective = run.scores["objective"]
    return Measured(
        run.record.get("kl_weight"),
        run.record.get("test.latent_entries"),
        run.per_image["objective.sse"].value,
        run.per_image["objective.kl"].value,
        (_number(objective.get("train.kl")), _number(objective.get("train.sse"))),
    )


def _number(value: float | None) -> float:
    """Files have null for a value that is not finite."""
    return np.nan if value is None else value


def _curves(
    found: Rates, vaes: Mapping[int, LinearVaes]
) -> dict[int, tuple[list[float], list[float]]]:
    """Number of latent entries -> rates, and distortions of the linear VAEs: around all points."""
    seen = [each.rate for each in _all(found) if each.log_ratio is not None]
    if not seen:
        return {}
    curves = {}
    for count, linear in sorted(vaes.items(), reverse=True):
        # Evenly in log w, and so that the ends lie outside the figure.
        ends = linear.weight_at(1.5 * max(seen)), linear.weight_at(min(seen) / 1.5)
        terms = [linear.terms(w) for w in np.geomspace(*ends, SAMPLES)]
        curves[count] = ([rate for rate, _ in terms], [sse for _, sse in terms])
    return curves


def _all(found: Rates) -> list[Point]:
    return [point for each in found.points.values() for point in each]


def _groups(found: Rates, families: Mapping[str, Sequence[str]]) -> dict[str, Group]:
    """What has one colour and marker: a family, at the place of its first variant, or a variant."""
    names = {member: name for name, members in families.items() for member in members}
    members: dict[str, list[str]] = {}
    for variant in found.points:
        members.setdefault(names.get(variant, variant), []).append(variant)
    groups = {}
    for name, variants in members.items():
        family = found.families.get(name, FamilyCurve())
        mean, error = mean_and_error(family.mean_log_ratio)
        over_images = family.mean_log_ratio_error_over_images
        groups[name] = Group(
            [_dots(found.points[variant]) for variant in variants],
            mean,
            over_images if error is None else error,
        )
    return groups


def _dots(points: Sequence[Point]) -> list[Dot]:
    return [
        Dot(point.weight, point.rate, point.sse, point.log_ratio, point.log_ratio_error)
        for point in points
        if point.log_ratio is not None and point.log_ratio_error is not None
    ]


def _write_table(
    found: Rates, seeds: Sequence[int], families: Mapping[str, Sequence[str]], target: Path | str
) -> None:
    """Numbers in full; an empty field stands for none."""
    names = {member: name for name, members in families.items() for member in members}
    text = io.StringIO()
    writer = None
    for variant, points in found.points.items():
        for seed, point in zip(seeds, points, strict=True):
            row = {"variant": variant, "family": names.get(variant), "seed": seed}
            row |= {COLUMNS[key]: value for key, value in asdict(point).items()}
            if writer is None:
                writer = csv.DictWriter(text, row, lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
    with replacing(target) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


# Field of a point -> its column.
COLUMNS = {
    "weight": "kl_weight",
    "latent_entries": "latent_entries",
    "rate": "test_rate_nats",
    "rate_error": "test_rate_standard_error_nats",
    "sse": "test_sse",
    "sse_error": "test_sse_standard_error",
    "log_ratio": "test_log_ratio_to_linear_vae",
    "log_ratio_error": "test_log_ratio_to_linear_vae_standard_error",
    "train_rate": "train_rate_nats",
    "train_sse": "train_sse",
    "train_log_ratio": "train_log_ratio_to_linear_vae",
    "common_rate": "mean_rate_at_this_kl_weight_nats",
    "sse_at_common_rate": "test_sse_at_that_rate_first_order",
}


def _summary(
    found: Rates, seeds: Sequence[int], families: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    low, high = found.common or (None, None)
    return {
        "meaning": MEANING,
        "seeds": list(seeds),
        "lowest_common_rate_nats": low,
        "highest_common_rate_nats": high,
        "common_rate_nats": found.middle,
        "families": [
            {"name": name, "variants": list(families[name]), **_statistics(curve)}
            for name, curve in found.families.items()
        ],
    }


def _statistics(curve: FamilyCurve) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, values, over_images in (
        ("mean_log_ratio", curve.mean_log_ratio, curve.mean_log_ratio_error_over_images),
        ("sse", curve.sse, curve.sse_error_over_images),
    ):
        mean, error = mean_and_error(values)
        entries |= {
            name: mean,
            f"{name}_by_seed": None if values is None else list(values),
            f"{name}_standard_error_over_seeds": error,
            f"{name}_standard_error_over_images": over_images,
        }
    return entries
