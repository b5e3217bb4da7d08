"""The answer to the project's question in words, with no more than the numbers carry, and the
warnings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svae.report.numbers import (
    PAIRED_ERROR,
    PAIRED_MEAN,
    STANDARD_ERROR,
    Code,
    Document,
    Number,
    Pieces,
    mean,
    number,
    value,
)
from svae.report.study import REAL, Study
from svae.scores.registry import PRIMARY

# A difference below so many standard errors may well be chance in the choice of test images.
LEAST_ERRORS = 2


def answer(study: Study) -> Pieces:
    """One paragraph: the best variant, feature maps against a vector, and how sure that is."""
    ranked = sorted(study.variants, key=study.mean_score, reverse=True)
    best = ranked[0]
    pieces: Pieces = [f"On {study.title}, ", Code(best)]
    if len(ranked) == 1:
        pieces += [" scores a Parzen-window log-likelihood of ", *score(study, best)]
        pieces += [" nats per image", *_averaged(study)]
        pieces += [". It is the only variant here, so that nothing is compared."]
    else:
        other = study.reference if best != study.reference else ranked[1]
        pieces += [f" has the highest Parzen-window log-likelihood of {len(ranked)} variants: "]
        pieces += [*score(study, best), " nats per image", *_averaged(study), ". That is "]
        pieces += [*_lead(study, best, other), " above ", Code(other), "."]
        pieces += [*_maps_or_vector(study, ranked, (best, other)), *_how_sure(study, ranked)]
    pieces += _against_real_images(study)
    return [*pieces, *_warned(study, ranked)]


def score(study: Study, variant: str) -> Pieces:
    """Log-likelihood, averaged over seeds, and its standard error over test images."""
    scores = study.scores(variant)
    if study.several:
        error = number(STANDARD_ERROR, study.per_image(variant), ".1f")
    else:
        error = value(scores[0], "standard_error", ".1f")
    return [mean(scores, "log_likelihood", ".1f"), " ± ", error]


def difference(study: Study, first: str, second: str, form: str) -> Pieces:
    """Mean paired difference first - second, and its standard error over test images."""
    sources = study.per_image(first, second)
    return [number(PAIRED_MEAN, sources, form), " ± ", number(PAIRED_ERROR, sources, ".1f")]


def _averaged(study: Study) -> Pieces:
    return [f" (mean over {len(study.seeds)} seeds)"] if study.several else []


def _lead(study: Study, first: str, second: str) -> Pieces:
    """How far `first` lies above `second`, and a word where the choice of images may explain it."""
    pieces = difference(study, first, second, ".1f")
    lead, error = pieces[0], pieces[-1]
    assert isinstance(lead, Number) and isinstance(error, Number)  # every image has a score
    if lead.value < LEAST_ERRORS * error.value:
        pieces.append(
            f" (less than {LEAST_ERRORS} standard errors: the choice of test images alone may "
            "explain it)"
        )
    return pieces


def _maps_or_vector(study: Study, ranked: Sequence[str], told: tuple[str, str]) -> Pieces:
    """Feature maps against a vector, by the best variant of each kind. `told`: the pair whose
    difference has been given already, the better one first."""
    sides = {name: study.records(name)[0].get("settings.latent_size") for name in ranked}
    maps = [name for name in ranked if sides[name] > 1]
    vectors = [name for name in ranked if sides[name] == 1]
    if not (maps and vectors):
        kind = "feature maps" if maps else "a vector"
        return [f" All variants here have {kind} as their latent: the two are not compared."]
    spatial, vector = maps[0], vectors[0]
    spatial_wins = ranked.index(spatial) < ranked.index(vector)
    pair = (spatial, vector) if spatial_wins else (vector, spatial)
    if pair == told:
        kinds = ["feature maps", "a vector"] if spatial_wins else ["a vector", "feature maps"]
        pieces: Pieces = [f" They are the best with {kinds[0]} as its latent, and the best with "]
        pieces += [kinds[1]]
    else:
        pieces = [" The best with feature maps as its latent is ", Code(spatial), " ("]
        pieces += [*score(study, spatial), "), the best with a vector ", Code(vector), " ("]
        pieces += [*score(study, vector), "): "]
        pieces += ["feature maps score " if spatial_wins else "the vector scores "]
        pieces += [*_lead(study, *pair), " higher"]
    return [*pieces, *_kl_weights(study, spatial, vector), "."]


def _kl_weights(study: Study, spatial: str, vector: str) -> Pieces:
    """Whether the two were trained at one KL weight; nothing under the ELBO, which sets it."""
    records = [study.records(name)[0] for name in (spatial, vector)]
    if {record.get("objective") for record in records} != {"weighted"}:
        return []
    first, second = (value(record, "kl_weight", ".3g") for record in records)
    assert isinstance(first, Number) and isinstance(second, Number)  # run.json has w
    if np.isclose(first.value, second.value, rtol=1e-6):
        return [", both at the KL weight w = ", first]
    unequal = ", but they were trained at different KL weights (w = "
    return [unequal, first, " and ", second, "), which alone moves scores"]


def _how_sure(study: Study, ranked: Sequence[str]) -> Pieces:
    if not study.several:
        return [
            " Whether variants differ is not yet established: there is one seed, and standard "
            "errors (±) cover the choice of test images alone, neither another training nor other "
            "samples."
        ]
    best, rest = ranked[0], ranked[1:]
    sure = [name for name in rest if study.established(best, name)]
    unsure = [name for name in rest if name not in sure]
    pieces: Pieces = [f" Over these {len(study.seeds)} seeds the lead of ", Code(best), " is "]
    if sure:
        pieces += ["established, on this data set and with these settings, over ", *_names(sure)]
    if unsure:
        pieces += [", but " if sure else "", "not yet established over ", *_names(unsure)]
    return [*pieces, " (95 % intervals, corrected for the number of pairs)."]


def _names(variants: Sequence[str]) -> Pieces:
    pieces: Pieces = []
    for index, name in enumerate(variants):
        if index:
            pieces.append(" and " if index == len(variants) - 1 else ", ")
        pieces.append(Code(name))
    return pieces


def _warned(study: Study, ranked: Sequence[str]) -> Pieces:
    """Which variants have warnings about their trainings."""
    best, *rest = ranked
    warned = [
        name for name in ranked if any(record.get("warnings") for record in study.records(name))
    ]
    others = [name for name in rest if name in warned]
    pieces: Pieces = ["the best variant"] if best in warned else []
    if others:
        pieces += [" and " if pieces else "", *_names(others)]
    if not pieces:
        return []
    doubt = "; the ranking does not take them into account" if rest else ""
    return [" There are warnings about ", *pieces, f", below{doubt}."]


def _against_real_images(study: Study) -> Pieces:
    row = study.baseline(REAL)
    if row is None:
        return []
    real = study.baselines.get(f"{row}.log_likelihood")
    above = sum(study.mean_score(name) > real for name in study.variants)
    if above:
        reading = (
            f": {above} of {len(study.variants)} variants score{'s' if above == 1 else ''} higher, "
            "so that the score is no measure of how real the samples look."
        )
    else:
        reading = ": no variant scores higher."
    return [
        " Training images in the place of samples (",
        value(study.baselines, f"{row}.n_samples", ","),
        " of them, against ",
        value(study.scores(study.reference)[0], "n_samples", ","),
        " samples) score ",
        value(study.baselines, f"{row}.log_likelihood", ".1f"),
        reading,
    ]


def warnings(study: Study, attributes: Mapping[str, Any]) -> list[Pieces]:
    """Of trainings, of sigmas at the edge of their grid, and of the source files."""
    found: list[Pieces] = []
    for variant, runs in study.runs.items():
        for seed, run in zip(study.seeds, runs, strict=True):
            name: Pieces = [Code(variant), f", seed {seed}: " if study.several else ": "]
            found += [[*name, f"{text}."] for text in run.record.get("warnings") or []]
            own, linear = run.scores[PRIMARY], run.scores["linear_vae"]
            if own.get("sigma_at_grid_edge"):
                found.append([*name, *_edge(own, "sigma")])
            if linear.get("parzen.sigma_at_grid_edge"):
                found.append([*name, "of its linear VAE, ", *_edge(linear, "parzen.sigma")])
    for index, row in enumerate(study.baselines.get("rows") or []):
        if row.get("sigma_at_grid_edge"):
            edge = _edge(study.baselines, f"rows.{index}.sigma")
            found.append([f"sanity row {row['name']}: ", *edge])
    noted = {run.scores[PRIMARY].get("dataset_source_note") for run in study.everything()}
    notes = sorted(filter(None, noted | {attributes.get("source_note")}))
    found += [[f"{note}."] for note in notes]
    if attributes.get("source_matches_official") is False and not notes:
        found.append(["The source files are not the official ones."])
    return found


def _edge(document: Document, key: str) -> Pieces:
    return [
        "sigma = ",
        value(document, key, ".3f"),
        " lies at the edge of its grid, so that the score is a lower bound; widen "
        "parzen.sigma_log10_min or parzen.sigma_log10_max.",
    ]
