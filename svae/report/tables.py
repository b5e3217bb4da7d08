"""The tables of the report, one row a variant where nothing else is said."""

from collections.abc import Mapping, Sequence
from typing import Any

from svae.report.answer import difference, score
from svae.report.numbers import (
    NOTHING,
    PAIRED_SPREAD,
    SPREAD,
    Code,
    Document,
    Pieces,
    half_width,
    kl,
    mean,
    number,
    over_seeds,
    quotient,
    sse,
    table,
    value,
)
from svae.report.study import REAL, Study

Table = dict[str, Any]


def protocol(study: Study) -> Pieces:
    """How the Parzen scores were taken."""
    first = study.scores(study.reference)[0]
    paper = first.get("protocol") == "paper"
    return [
        value(first, "n_samples", ","),
        " samples a variant; sigma chosen on ",
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
        f"{first.get('batch_norm')} statistics; seed{'s' if study.several else ''} "
        f"{', '.join(map(str, study.seeds))}.",
    ]


def scores(study: Study) -> Table:
    compared = len(study.variants) > 1
    columns = ["variant", "log-likelihood ± s.e. (nats)"]
    columns += ["spread over seeds (nats)"] if study.several else []
    columns += ["spread over fresh draws (nats)"]
    columns += [f"difference to {study.reference} ± s.e. (nats)"] if compared else []
    columns += ["its spread over seeds (nats)"] if compared and study.several else []
    columns += ["bits per dimension", "sigma (pixel units)"]
    rows = []
    for name in study.variants:
        files = study.scores(name)
        row: list[Pieces] = [[Code(name)], score(study, name)]
        if study.several:
            likelihoods = [file.source("log_likelihood") for file in files]
            row.append([number(SPREAD, likelihoods, ".1f")])
        row.append([mean(files, "fresh_draws.standard_deviation", ".2f")])
        if compared:
            row += _to_reference(study, name)
        row.append([mean(files, "bits_per_dim", ".3f")])
        edge = any(file.get("sigma_at_grid_edge") for file in files)
        row.append([*over_seeds(files, "sigma", ".3f"), " (edge)" if edge else ""])
        rows.append(row)
    return table("Parzen-window log-likelihood, in nats per image", columns, rows)


def _to_reference(study: Study, name: str) -> list[Pieces]:
    if name == study.reference:
        return [[NOTHING]] * (2 if study.several else 1)
    cells = [difference(study, name, study.reference, "+.1f")]
    if study.several:
        sources = study.per_image(name, study.reference)
        cells.append([number(PAIRED_SPREAD, sources, ".1f")])
    return cells


def each_seed(study: Study) -> Table | None:
    """A row a variant and seed; None with one seed."""
    if not study.several:
        return None
    columns = ["variant and seed", "log-likelihood ± s.e. (nats)"]
    columns += ["spread over fresh draws (nats)", "sigma (pixel units)", "KL (nats)"]
    columns += ["MSE per pixel", "active entries"]
    rows = []
    for name, runs in study.runs.items():
        for seed, run in zip(study.seeds, runs, strict=True):
            likelihood = value(run.score, "log_likelihood", ".1f")
            rows.append(
                [
                    [Code(name), f", seed {seed}"],
                    [likelihood, " ± ", value(run.score, "standard_error", ".1f")],
                    [value(run.score, "fresh_draws.standard_deviation", ".2f")],
                    [value(run.score, "sigma", ".3f")],
                    kl([run.record]),
                    [value(run.record, "test.mse_per_pixel", ".4f")],
                    [value(run.record, "test.active_entries", ",")],
                ]
            )
    return table("The same, seed by seed", columns, rows)


def terms(study: Study) -> Table:
    """Reconstruction, KL and active units on the test images."""
    elbo = "elbo" in study.objectives()
    columns = ["variant", "KL weight w", "KL (nats)"]
    columns += ["SSE, posterior sample", "SSE, posterior mean"]
    columns += ["MSE per pixel, posterior sample", "MSE per pixel, posterior mean"]
    columns += ["active entries", "active maps"]
    columns += ["decoder variance", "ELBO (nats)"] if elbo else []
    rows = []
    for name in study.variants:
        files = study.records(name)
        mse = quotient(files, "test.sse_per_image_posterior_mean", "dimension", ".4f")
        row: list[Pieces] = [
            [Code(name)],
            over_seeds(files, "kl_weight", ".3g"),
            kl(files),
            sse(files),
            over_seeds(files, "test.sse_per_image_posterior_mean", ".1f"),
            over_seeds(files, "test.mse_per_pixel", ".4f"),
            [mse],
            _share(files, "test.active_entries", "test.latent_entries"),
            _share(files, "test.active_maps", "test.latent_maps"),
        ]
        if elbo:
            row.append(over_seeds(files, "decoder_variance", ".4f"))
            row.append(over_seeds(files, "test.elbo_nats_per_image", ".1f"))
        rows.append(row)
    return table("Reconstruction and latent, means over the test images", columns, rows)


def _share(files: Sequence[Document], part: str, whole: str) -> Pieces:
    return [*over_seeds(files, part, ","), " of ", mean(files, whole, ",")]


def beside(study: Study) -> Table:
    """Measures beside the Parzen score."""
    error = "" if study.several else " ± s.e."
    columns = ["variant", f"importance-weighted bound{error} (nats)", "effective sample size, mean"]
    columns += ["sliced Wasserstein distance, mean of levels", "its floor, real against real"]
    columns += [f"share of samples nearer to a training image{error}"]
    columns += [f"the same share of test images{error}", "the share if all were copies"]
    rows = []
    for name in study.variants:
        files = study.evaluations(name)
        refused = any(file.get("importance_weighted_bound") is None for file in files)
        bound = _with_error(files, "importance_weighted_bound.log_likelihood", ".1f")
        size = over_seeds(files, "importance_weighted_bound.effective_sample_size", ".1f")
        rows.append(
            [
                [Code(name)],
                ["refused, see below"] if refused else bound,
                [NOTHING] if refused else size,
                over_seeds(files, "sliced_wasserstein.distance_mean", ".4g"),
                over_seeds(files, "sliced_wasserstein.floor_mean", ".4g"),
                _with_error(files, "memorisation.share_of_samples", ".3f"),
                _with_error(files, "memorisation.share_of_test_images", ".3f"),
                [mean(files, "memorisation.share_if_all_were_copies", ".3f")],
            ]
        )
    return table("Beside the Parzen score", columns, rows)


def _with_error(files: Sequence[Document], key: str, form: str) -> Pieces:
    """The number with the standard error of its file; of several seeds, the mean and the spread.

    The standard error of `log_likelihood` is `standard_error` beside it, that of any other number
    has its name in front.
    """
    if len(files) > 1:
        return over_seeds(files, key, form)
    parent, _, name = key.rpartition(".")
    own = "standard_error" if name == "log_likelihood" else f"{name}_standard_error"
    return [value(files[0], key, form), " ± ", value(files[0], f"{parent}.{own}", form)]


def refusals(study: Study) -> list[tuple[list[str], str]]:
    """The variants that were refused the bound, and why, by reason."""
    found: dict[str, dict[str, None]] = {}
    for name in study.variants:
        for file in study.evaluations(name):
            if file.get("importance_weighted_bound") is None:
                reason = file.get("importance_weighted_bound_refused") or "no reason is given"
                found.setdefault(reason.rstrip("."), {})[name] = None
    return [(list(names), reason) for reason, names in found.items()]


def bound(study: Study) -> Pieces | None:
    """How the bounds were taken, from the first run that has one."""
    for run in study.everything():
        if run.evaluation.get("importance_weighted_bound"):
            prefix = "importance_weighted_bound"
            return [
                "The bound has k = ",
                value(run.evaluation, f"{prefix}.k", ","),
                " posterior samples an image on ",
                value(run.evaluation, f"{prefix}.n_images", ","),
                " test images dequantised with uniform noise; its decoder variance comes from: "
                f"{run.evaluation.get(f'{prefix}.variance_from')}.",
            ]
    return None


def levels(study: Study) -> Table | None:
    """The distance at each level of the pyramid; None where there is one level or none."""
    first = study.evaluations(study.reference)[0]
    sides = first.get("sliced_wasserstein.levels") or []
    if len(sides) < 2:
        return None
    columns = ["variant", *(f"side {side}: distance (floor)" for side in sides)]
    rows = []
    for name in study.variants:
        files = study.evaluations(name)
        row: list[Pieces] = [[Code(name)]]
        for index in range(len(sides)):
            distance = mean(files, f"sliced_wasserstein.distance.{index}", ".4g")
            floor = mean(files, f"sliced_wasserstein.floor.{index}", ".4g")
            row.append([distance, " (", floor, ")"])
        rows.append(row)
    return table("Sliced Wasserstein distance by level of the pyramid", columns, rows)


def sanity(study: Study) -> Table:
    """A row a stand-in for the samples: those of baselines.json, then the linear VAEs."""
    columns = ["in the place of samples", "what it says", "log-likelihood ± s.e. (nats)"]
    columns += ["sigma (pixel units)", "how many", "fitted to images"]
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
                [value(file, f"{key}.n_samples", ",")],
                [value(file, f"{key}.n_fitted", ",")],
            ]
        )
    for name in study.variants:
        files = study.linear_vaes(name)
        edge = any(file.get("parzen.sigma_at_grid_edge") for file in files)
        rows.append(
            [
                ["linear VAE at the w of ", Code(name)],
                ["Draws from probabilistic PCA: what this KL weight gives without a network."],
                _with_error(files, "parzen.log_likelihood", ".1f"),
                [*over_seeds(files, "parzen.sigma", ".3f"), " (edge)" if edge else ""],
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
        above = [row["name"] for row in rows if row["log_likelihood"] > real]
        if above:
            pieces.append(
                f"Above the training images themselves score here: {', '.join(above)}. A score "
                "that ranks these above real images does not rank by how real images look. "
            )
    for row in rows:
        better = [name for name in study.variants if study.mean_score(name) > row["log_likelihood"]]
        pieces.append(f"Variants above {row['name']}: ")
        for index, name in enumerate(better):
            pieces += [", " if index else "", Code(name)]
        pieces.append(". " if better else "none. ")
    return pieces


def predicted(study: Study) -> Table:
    """What a linear VAE predicts at each variant's w, beside what was measured."""
    columns = ["variant", "w", "KL predicted (nats)", "KL measured (nats)"]
    columns += ["active entries predicted", "active entries measured"]
    columns += ["SSE predicted", "SSE measured"]
    rows = []
    for name in study.variants:
        linear, records = study.linear_vaes(name), study.records(name)
        rows.append(
            [
                [Code(name)],
                over_seeds(linear, "kl_weight", ".3g"),
                over_seeds(linear, "kl_nats_per_image", ".2f"),
                kl(records),
                over_seeds(linear, "active_entries", ","),
                over_seeds(records, "test.active_entries", ","),
                over_seeds(linear, "sse_per_image", ".1f"),
                sse(records),
            ]
        )
    return table("The linear VAE's prediction beside the measurement", columns, rows)


def pairs(study: Study) -> Table | None:
    """A row a pair of variants; None for a single variant."""
    if not study.pairs:
        return None
    columns = ["pair", "difference ± s.e. over test images (nats)"]
    if study.several:
        columns += ["spread over seeds (nats)", "half-width of the 95 % interval (nats)"]
    columns += ["established"]
    rows = []
    for first, second in study.pairs:
        row: list[Pieces] = [[Code(first), " less ", Code(second)]]
        row.append(difference(study, first, second, "+.1f"))
        if study.several:
            sources = study.per_image(first, second)
            row.append([number(PAIRED_SPREAD, sources, ".1f")])
            row.append([number(half_width(len(study.pairs)), sources, ".1f")])
        row.append(["yes" if study.established(first, second) else "not yet"])
        rows.append(row)
    return table("Mean difference of the scores of the same test images", columns, rows)


def data(attributes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the store says about itself, by name."""
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
    if attributes.get("broken_images"):
        rows.append(("Broken images left out", f"{attributes['broken_images']:,}"))
    versions = attributes.get("software") or {}
    rows.append(("Converted with", ", ".join(f"{name} {v}" for name, v in versions.items())))
    rows.append(("Checksum (SHA-256 of the pixels)", attributes["checksum"]))
    return rows


def _pixels(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value} pixels" if isinstance(value, int) else str(value)


def software(study: Study) -> list[tuple[str, str]]:
    """Every package that a file of the runs names, with its versions."""
    found: dict[str, dict[str, None]] = {}
    for run in study.everything():
        for file in (run.record, run.score, run.evaluation, run.linear):
            for package, version in (file.get("software") or {}).items():
                found.setdefault(package, {})[str(version)] = None
    return [(package, ", ".join(versions)) for package, versions in sorted(found.items())]


def times(study: Study) -> Table:
    columns = ["variant", "training (s)", "epochs trained", "of epochs asked for"]
    columns += ["weights of epoch", "parameters", "threads", "device"]
    rows = []
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
