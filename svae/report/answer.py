"""The answer to the project's question in words, with no more than the numbers carry.

J = SSE + w KL decides between variants that share the KL weight w, and the ELBO at its optimal
variance between any (svae.scores.image_terms says why). Parzen-window scores come second.
"""

from collections.abc import Sequence

from svae.report.difference_tables import difference
from svae.report.intervals import Comparison
from svae.report.numbers import (
    STANDARD_ERROR,
    Code,
    Document,
    Number,
    Piece,
    Pieces,
    joined,
    mean,
    number,
    value,
)
from svae.report.study import REAL, Study
from svae.scores.image_measures import ImageMeasure, elbo, j, parzen

# A difference below this many standard errors may be due to the choice of test images.
LEAST_ERRORS = 2
NAMES = {
    "objective.j": "J = SSE + w KL of test images",
    "objective.elbo": "the evidence lower bound (ELBO) of test images, each run at its optimal "
    "decoder variance",
}


def answer(study: Study) -> list[Pieces]:
    """Four paragraphs: the best variant; feature maps against a vector; how sure that is; Parzen
    scores and warnings. For a single variant, the first and the last."""
    groups, measure = study.groups(), study.deciding()
    first: Pieces = [f"On {study.title}, "]
    last = [*_parzen(study), *_warned(study)]
    if len(study.variants) == 1:
        (only,) = study.variants
        first += [Code(only), f" reaches, by {NAMES[measure.name]}, ", *score(study, measure, only)]
        first += [*_averaged(study), ". It is the only variant here: nothing is compared."]
        return [first, last]
    first += [*_best(study, measure, study.variants), *_averaged(study), "."]
    for group in groups if measure == elbo() else []:
        if len(group) > 1:
            weight = value(study.records(group[0])[0], "kl_weight", ".3g")
            first += [" Among those trained at w = ", weight, ", ", *_best(study, j(), group), "."]
    return [first, _maps_or_vector(study, measure, groups), _how_sure(study), last]


def score(study: Study, measure: ImageMeasure, variant: str) -> Pieces:
    """A measure, averaged over seeds, with its standard error over test images, and its unit."""
    column = measure.column
    shown: Piece = mean(study.scores(variant, measure.score), column.key, column.format)
    error = number(STANDARD_ERROR, study.per_image(measure, variant), column.format)
    return [shown, " ± ", error, *([f" {column.unit}"] if column.unit else [])]


def ranked(study: Study, measure: ImageMeasure, variants: Sequence[str]) -> list[str]:
    """The variants that have the measure, the best first."""
    found = [name for name in variants if study.has(measure, name)]
    sign = -1 if measure.column.higher_is_better else 1
    return sorted(found, key=lambda name: sign * study.mean(measure, name))


def _best(study: Study, measure: ImageMeasure, variants: Sequence[str]) -> Pieces:
    """Which of these variants is the best, and by how much the next one is worse."""
    best, second = ranked(study, measure, variants)[:2]
    pieces: Pieces = [
        f"by {NAMES[measure.name]}, ",
        Code(best),
        f" is the best of {len(variants)}: ",
    ]
    pieces += [*score(study, measure, best), "; next is ", Code(second), ", "]
    return [*pieces, *_lead(study, measure, best, second)]


def _lead(study: Study, measure: ImageMeasure, better: str, worse: str) -> Pieces:
    """By how much `worse` is worse, and a remark where the choice of images may explain it."""
    higher = bool(measure.column.higher_is_better)
    pair = (better, worse) if higher else (worse, better)
    pieces = difference(study, measure, *pair, measure.column.format)
    lead, error = pieces[0], pieces[-1]
    assert isinstance(lead, Number) and isinstance(error, Number)  # every image has a value
    pieces.append(" lower" if higher else " higher")
    if lead.value < LEAST_ERRORS * error.value:
        pieces.append(
            f" (less than {LEAST_ERRORS} standard errors, so the choice of test images may explain "
            "it)"
        )
    return pieces


def _averaged(study: Study) -> Pieces:
    return [f" (means over {len(study.seeds)} seeds)"] if study.several else []


def _maps_or_vector(study: Study, measure: ImageMeasure, groups: Sequence[Sequence[str]]) -> Pieces:
    """The best variant of each kind: by J wherever both kinds share w, and by the ELBO."""
    maps, vectors = _kinds(study, study.variants)
    if not (maps and vectors):
        kind = "feature maps" if maps else "a vector"
        return [f"The latent of every variant here is {kind}: the two kinds are not compared."]
    pieces: Pieces = []
    shares_w = False
    for group in groups:
        if all(_kinds(study, group)):
            shares_w = True
            weight = value(study.records(group[0])[0], "kl_weight", ".3g")
            pieces += [" " * bool(pieces), "Feature maps or a vector, at equal w = ", weight, ": "]
            pieces += [*_kind_against_kind(study, j(), group), "."]
    if measure == elbo():
        pieces += [" Across w: " if shares_w else "Feature maps or a vector: "]
        pieces += [*_kind_against_kind(study, measure, study.variants), "."]
    return pieces


def _kinds(study: Study, variants: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those whose latent is feature maps, and those whose latent is a vector: maps of d = 1, or all
    entries mixed by the arrangement dense."""
    settings = {name: study.records(name)[0].get("settings") for name in variants}
    vectors = [
        name
        for name in variants
        if settings[name]["latent_size"] == 1 or settings[name].get("arrangement") == "dense"
    ]
    return [name for name in variants if name not in vectors], vectors


def _kind_against_kind(study: Study, measure: ImageMeasure, variants: Sequence[str]) -> Pieces:
    """The best with maps and the best with a vector, the better of the two first. Without numbers
    if they are the two best of all, whose numbers stand in the first sentences."""
    order = ranked(study, measure, variants)
    kinds = zip(("maps", "vector"), _kinds(study, variants), strict=True)
    best = {next(name for name in order if name in names): kind for kind, names in kinds}
    better, worse = sorted(best, key=order.index)
    pieces: Pieces = [f"the best {best[better]}, ", Code(better), ", "]
    if order[:2] == [better, worse]:
        pieces += [f"is ahead of the best {best[worse]}, ", Code(worse), ", as said above"]
    else:
        pieces += ["has the ELBO " if measure == elbo() else "has J = "]
        pieces += [*score(study, measure, better), f"; the best {best[worse]}, ", Code(worse)]
        pieces += [", is ", *_lead(study, measure, better, worse)]
    return [*pieces, *_unequal_weights(study, better, worse)]


def _unequal_weights(study: Study, first: str, second: str) -> Pieces:
    """The KL weights of two variants in the order in which they were named, unless they agree."""
    records: list[Document] = [study.records(name)[0] for name in (first, second)]
    if {record.get("objective") for record in records} != {"weighted"}:
        return []
    if study.comparable(j(), first, second):
        return []
    weights = [value(record, "kl_weight", ".3g") for record in records]
    pieces: Pieces = [" (trained at w = ", weights[0], " and ", weights[1], ", in this order; w "]
    return [*pieces, "by itself moves this bound)"]


def _how_sure(study: Study) -> Pieces:
    if not study.several:
        return [
            "No difference is established yet: there is one seed, and standard errors (±) cover "
            "the choice of test images only, not another training."
        ]
    pieces: Pieces = []
    for measure, name in ((j(), "J"), (elbo(), "the ELBO")):
        found = study.differences(measure)
        sure = [each for each in found if each.established]
        unsure = [each for each in found if not each.established]
        if not found:
            continue
        asked = f"{len(found)} comparison{'s' * (len(found) > 1)} asked for beforehand"
        pieces += [
            " " * bool(pieces),
            f"Established by {name}, of {asked}: ",
            *([] if sure else ["none"]),
        ]
        pieces += joined([_better_than(measure, each) for each in sure], " and ")
        if sure and unsure:
            pieces += ["; not established: "]
            pieces += joined([_against(each.first, each.second) for each in unsure], " and ")
        pieces += ["."]
    if not pieces:
        return ["No comparison was asked for beforehand, so none is established."]
    return [*pieces, " (Holm's procedure at 95 %; it holds for this data set and these settings.)"]


def _better_than(measure: ImageMeasure, found: Comparison) -> Pieces:
    assert found.difference is not None
    first, second = found.first, found.second
    if (found.difference > 0) != bool(measure.column.higher_is_better):
        first, second = second, first
    return [Code(first), " is better than ", Code(second)]


def _against(first: str, second: str) -> Pieces:
    return [Code(first), " against ", Code(second)]


def _warned(study: Study) -> Pieces:
    """Which variants have warnings about their trainings."""
    warned = [
        name for name in study.variants if any(run.get("warnings") for run in study.records(name))
    ]
    if not warned:
        return []
    doubt = "; the ranking does not take them into account" if len(study.variants) > 1 else ""
    return [
        " There are warnings about ",
        *joined([[Code(name)] for name in warned], " and "),
        f", below{doubt}.",
    ]


def _parzen(study: Study) -> Pieces:
    """Second, and why: what samples score, and what real images score in their place."""
    best = ranked(study, parzen(), study.variants)[0]
    pieces: Pieces = ["By Parzen-window log-likelihood, "]
    if len(study.variants) > 1:
        pieces += ["which is reported second because it can rank blurred or averaged images above "]
        pieces += ["real ones, ", Code(best), " is the highest with "]
    else:
        pieces += ["which can rank blurred or averaged images above real ones, it scores "]
    pieces += score(study, parzen(), best)
    row = study.baseline(REAL)
    if row is None:
        return [*pieces, "."]
    real = study.baselines.get(f"{row}.log_likelihood")
    above = sum(study.mean(parzen(), name) > real for name in study.variants)
    return [
        *pieces,
        "; training images in place of samples (",
        value(study.baselines, f"{row}.n_samples", ","),
        " of them, against ",
        value(study.scores(best, "parzen")[0], "n_samples", ","),
        " samples) score ",
        value(study.baselines, f"{row}.log_likelihood", ".1f"),
        f", and {above or 'none'} of {len(study.variants)} variants score"
        f"{'s' if above <= 1 else ''} higher.",
    ]
