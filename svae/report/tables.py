"""The tables of the report that are not those of a score: one row per variant, or as they say."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from svae.datasets.store import part_in_words, unread_in_words
from svae.report.numbers import Code, Pieces, joined, mean, over_seeds, table, value
from svae.report.score_tables import cell, column_of, heading
from svae.report.study import REAL, Study
from svae.scores.image_measures import parzen

Table = dict[str, Any]


def protocol(study: Study) -> Pieces:
    """How the Parzen scores were measured."""
    first = study.scores(study.variants[0], "parzen")[0]
    paper = first.get("protocol") == "paper"
    return [
        value(first, "n_samples", ","),
        " samples per variant; sigma chosen on ",
        "blocks of " if paper else "",
        value(first, "n_valid", ","),
        " test images, one for each sigma" if paper else " validation images",
        "; mean and standard error over ",
        value(first, "n_test", ","),
        " test images of ",
        value(first, "dimension", ","),
        " pixel values on [-1, 1]; protocol ",
        Code(str(first.get("protocol"))),
        f"; objective {', '.join(study.objectives())}; batch norm in the samples: "
        f"{first.get('batch_norm')} statistics; ",
        *(["their latents: ", value(first, "prior", ""), "; "] if first.get("prior") else []),
        f"seed{'s' if study.several else ''} {', '.join(map(str, study.seeds))}.",
    ]


def each_seed(study: Study) -> Table | None:
    """A row per variant and seed; None with one seed."""
    if not study.several:
        return None
    shown = [
        ("objective", "test.j"),
        ("objective", "train.j"),
        ("objective", "test.elbo"),
        ("objective", "train.elbo"),
        ("parzen", "log_likelihood"),
        ("parzen", "fresh_draws.standard_deviation"),
        ("parzen", "sigma"),
        ("reconstruction", "kl_nats_per_image"),
        ("reconstruction", "mse_per_pixel"),
        ("reconstruction", "active_entries"),
    ]
    columns = [(name, column_of(name, key)) for name, key in shown]
    rows: list[list[Pieces]] = []
    for name, runs in study.runs.items():
        for seed, run in zip(study.seeds, runs, strict=True):
            cells = [cell(column, [run.scores[score]]) for score, column in columns]
            rows.append([[Code(name), f", seed {seed}"], *cells])
    headings = [heading(column, study) for _, column in columns]
    return table("Seed by seed", ["variant and seed", *headings], rows)


def sanity(study: Study) -> Table:
    """One row per stand-in for the samples: those of baselines.json, then the linear VAEs."""
    columns = ["stand-in for the samples", "what it shows", "log-likelihood ± s.e. (nats)"]
    columns += ["sigma (pixel units)", "at the grid's sigma (nats)", "how many", "fitted to images"]
    rows: list[list[Pieces]] = []
    file = study.baselines
    for index, row in enumerate(file.get("rows") or []):
        key = f"rows.{index}"
        likelihood = value(file, f"{key}.log_likelihood", ".1f")
        edge = " (edge)" if row.get("sigma_at_grid_edge") else ""
        rows.append(
            [
                [row["name"]],
                [row["meaning"]],
                [likelihood, " ± ", value(file, f"{key}.standard_error", ".1f")],
                [value(file, f"{key}.sigma", ".3f"), edge],
                [value(file, f"{key}.grid_log_likelihood", ".1f")],
                [value(file, f"{key}.n_samples", ",")],
                [value(file, f"{key}.n_fitted", ",")],
            ]
        )
    for name in study.variants:
        files = study.scores(name, "linear_vae")
        at_edge = any(file.get("parzen.sigma_at_grid_edge") for file in files)
        rows.append(
            [
                ["linear VAE at the w of ", Code(name)],
                ["Draws from probabilistic PCA: what this KL weight gives without a network."],
                cell(column_of("linear_vae", "parzen.log_likelihood"), files),
                [*over_seeds(files, "parzen.sigma", ".3f"), " (edge)" if at_edge else ""],
                over_seeds(files, "parzen.grid_log_likelihood", ".1f"),
                [mean(files, "parzen.n_samples", ",")],
                [mean(files, "n_fitted", ",")],
            ]
        )
    return table("Sanity rows: Parzen scores without a network", columns, rows, prose=[1])


def sanity_reading(study: Study) -> Pieces:
    """Which sanity rows score above real images, and which variants above each row."""
    rows = study.baselines.get("rows") or []
    real = next((row["log_likelihood"] for row in rows if row["name"] == REAL), None)
    pieces: Pieces = []
    if real is not None:
        above: list[Pieces] = [[row["name"]] for row in rows if row["log_likelihood"] > real]
        above += [
            ["the linear VAE at the w of ", Code(name)]
            for name in study.variants
            if _linear_vae(study, name) > real
        ]
        if above:
            pieces += ["Above the training images themselves score here: "]
            pieces += [*joined(above), ". A score that ranks these above real images does not "]
            pieces += ["rank by how real images look. "]
    for row in rows:
        better = [
            name for name in study.variants if study.mean(parzen(), name) > row["log_likelihood"]
        ]
        pieces += [f"Variants above {row['name']}: "]
        pieces += [*joined([[Code(name)] for name in better]), ". " if better else "none. "]
    return pieces


def _linear_vae(study: Study, variant: str) -> float:
    """The Parzen score of the linear VAE at a variant's w, averaged over seeds."""
    files = study.scores(variant, "linear_vae")
    return fmean(file.get("parzen.log_likelihood") for file in files)


def data(attributes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the store records about its images, by name."""
    rows = [("Data set", f"{attributes['title']} ({attributes['dataset']})")]
    files = attributes.get("source_files") or {}
    hashes = attributes.get("source_sha256") or {}
    for role, name in files.items():
        digest = hashes.get(role)
        rows.append((f"Source: {role}", f"{name}, {f'SHA-256 {digest}' if digest else 'a folder'}"))
    if not files:
        rows.append(("Source", "installed with a Python package, no file"))
    official = {True: "yes", False: "NO", None: "no checksum was published"}
    rows.append(("Source is the official one", official[attributes.get("source_matches_official")]))
    counts = attributes.get("counts") or {}
    rows.append(("Images", ", ".join(f"{split}: {count:,}" for split, count in counts.items())))
    rows.append(("Split rule", str(attributes["split_rule"])))
    for key in ("crop", "size"):
        rows.append((key.capitalize(), _pixels(attributes.get(key))))
    rows.append(("Colour channels", str(attributes["channels"])))
    rows.append(("Black added on each side, for the networks", _pixels(attributes["padding"])))
    rows += [(f"Option {name}", str(v)) for name, v in (attributes.get("options") or {}).items()]
    if attributes.get("max_images"):
        rows.append(("Chosen by the hash of their names", part_in_words(attributes)))
    if attributes.get("broken_images"):
        rows.append(("Broken images left out", f"{attributes['broken_images']:,}"))
    if attributes.get("unread_files"):
        rows.append(
            ("Files of formats that are not read", unread_in_words(attributes["unread_files"]))
        )
    versions = attributes.get("software") or {}
    rows.append(("Converted with", ", ".join(f"{name} {v}" for name, v in versions.items())))
    rows.append(("Checksum (SHA-256 of the pixels)", attributes["checksum"]))
    return rows


def _pixels(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value} pixels" if isinstance(value, int) else str(value)


def software(study: Study) -> list[tuple[str, str]]:
    """Every package that the files of the runs name, with its versions."""
    found: dict[str, dict[str, None]] = {}
    for run in study.everything():
        for file in (run.record, *run.scores.values()):
            for package, version in (file.get("software") or {}).items():
                found.setdefault(package, {})[str(version)] = None
    return [(package, ", ".join(versions)) for package, versions in sorted(found.items())]


def times(study: Study) -> Table:
    columns = ["variant", "training (s)", "epochs trained", "epochs asked for"]
    columns += ["weights of epoch", "parameters", "threads", "device"]
    rows: list[list[Pieces]] = []
    for name in study.variants:
        files = study.records(name)
        devices = dict.fromkeys(str(file.get("device")) for file in files)
        rows.append(
            [
                [Code(name)],
                over_seeds(files, "training_seconds", ",.0f"),
                over_seeds(files, "epochs_trained", ","),
                over_seeds(files, "epochs", ","),
                over_seeds(files, "weights_of_epoch", ","),
                over_seeds(files, "parameters", ","),
                over_seeds(files, "threads", ","),
                [", ".join(devices)],
            ]
        )
    return table("Training times and sizes", columns, rows, prose=[7])
