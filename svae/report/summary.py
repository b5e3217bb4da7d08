"""The table of all variants, as CSV with every column, and as Markdown to read.

Both are made of what the page is made of (svae.report): the same numbers, tables and warnings.
"""

import csv as csv_module
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from svae.jobs.files import replacing
from svae.report import tables
from svae.report.answer import answer, warnings
from svae.report.numbers import (
    PAIRED_ERROR,
    PAIRED_MEAN,
    PAIRED_SPREAD,
    SPREAD,
    STANDARD_ERROR,
    Code,
    Document,
    Number,
    Piece,
    Pieces,
    mean,
    number,
)
from svae.report.score_tables import in_csv, method, others, refusals, score_table
from svae.report.study import Files, Study, read

# Column -> key in run.json, of which the mean over the seeds is taken.
RECORD = {
    "kl_weight": "kl_weight",
    "equivalent_variance_at_unit_beta": "equivalent_variance_at_unit_beta",
    "equivalent_beta_at_unit_variance": "equivalent_beta_at_unit_variance",
    "decoder_variance": "decoder_variance",
    "parameters": "parameters",
    "training_seconds": "training_seconds",
    "epochs": "epochs",
    "epochs_trained": "epochs_trained",
    "weights_of_epoch": "weights_of_epoch",
}
# Of the first seed, as it stands there.
TEXTS = ("objective", "dataset", "dataset_checksum")


def summarise(
    files: Files,
    attributes: Mapping[str, Any],
    license: str,
    csv: Path | str,
    markdown: Path | str,
    pairs: Path | str,
) -> None:
    """Write a row a variant to `csv`, a row a pair of variants to `pairs`, and all of it in words
    and tables to `markdown`.

    attributes: of the store. license: terms of use of its images. Differences are to `vanilla`, or
    to the first variant where there is none of that name. Of several seeds, numbers are means.
    UserError if scores cannot be paired.
    """
    study = read(attributes["title"], files)
    _write_csv([_row(study, name) for name in study.variants], csv)
    _write_csv([_pair(study, *pair) for pair in study.pairs], pairs)
    with replacing(markdown) as temporary:
        temporary.write_text(_markdown(study, attributes, license), encoding="utf-8")


def _row(study: Study, name: str) -> dict[str, Any]:
    scores, records = study.scores(name), study.records(name)
    both = study.per_image(name, study.reference)
    first = records[0]
    return {
        "variant": name,
        "posterior": first.get("settings.posterior"),
        "log_likelihood_nats": mean(scores, "log_likelihood", ".1f"),
        "standard_error_nats": number(STANDARD_ERROR, study.per_image(name), ".1f"),
        "seeds": " ".join(map(str, study.seeds)),
        "spread_over_seeds_nats": _spread(scores, "log_likelihood"),
        "reference": study.reference,
        "paired_difference_nats": number(PAIRED_MEAN, both, ".1f"),
        "paired_standard_error_nats": number(PAIRED_ERROR, both, ".1f"),
        **in_csv(study, name),
        **_means(records, RECORD),
        "spikes": sum(len(record.get("spikes") or []) for record in records),
        **{key: first.get(key) for key in TEXTS},
        "warnings": "; ".join(
            dict.fromkeys(text for record in records for text in record.get("warnings") or [])
        ),
    }


def _pair(study: Study, first: str, second: str) -> dict[str, Any]:
    sources = study.per_image(first, second)
    spread = number(PAIRED_SPREAD, sources, ".1f") if study.several else None
    return {
        "variant": first,
        "less": second,
        "difference_nats": number(PAIRED_MEAN, sources, ".1f"),
        "standard_error_nats": number(PAIRED_ERROR, sources, ".1f"),
        "spread_over_seeds_nats": spread,
        "established": bool(study.established(first, second)),
    }


def _means(documents: Sequence[Document], columns: Mapping[str, str]) -> dict[str, Piece]:
    return {column: mean(documents, key, ".6g") for column, key in columns.items()}


def _spread(documents: Sequence[Document], key: str) -> Piece | None:
    if len(documents) == 1:
        return None
    return number(SPREAD, [document.source(key) for document in documents], ".1f")


def _write_csv(rows: Sequence[Mapping[str, Any]], target: Path | str) -> None:
    """Numbers in full; an empty field where there is none."""
    text = io.StringIO()
    if rows:
        writer = csv_module.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({column: _field(value) for column, value in row.items()})
    with replacing(target) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _field(value: Any) -> Any:
    if isinstance(value, Number):
        whole = value.rule == "value" and isinstance(value.sources[0].value, int)
        return int(value.value) if whole else value.value
    return "" if value in ("-", None) else value


def _markdown(study: Study, attributes: Mapping[str, Any], license: str) -> str:
    blocks = [f"# {_text([study.title])}", _text(answer(study))]
    blocks += [f"**Warning:** {_text(warning)}" for warning in warnings(study, attributes)]
    blocks += ["## Scores", _text(tables.protocol(study)), *_table(tables.primary(study))]
    blocks += _table(tables.each_seed(study))
    blocks += [_what_errors_cover(study), *_table(tables.pairs(study))]
    for score in others():
        blocks += _table(score_table(study, score))
        blocks.append(_text([f"{score.meaning} ", *method(study, score)]))
        blocks += [
            f"{score.title}: refused for {_text(_listed(names))}: {_text([reason])}."
            for names, reason in refusals(study, score)
        ]
    blocks += ["## Sanity rows", *_table(tables.sanity(study))]
    blocks.append(_text(tables.sanity_reading(study)))
    blocks.append(f"Licence or terms of use of the images: {_text([license])}.")
    blocks.append(f"Data checksum (SHA-256 of the pixels): `{attributes['checksum']}`.")
    return "\n\n".join(blocks) + "\n"


def _what_errors_cover(study: Study) -> str:
    text = (
        "±: one standard error over test images, that of paired differences too: it covers the "
        "choice of test images alone. Samples drawn anew and trainings with other seeds add a "
        "spread of their own. "
    )
    if study.several:
        return text + "Numbers are means over seeds, those in brackets their spread over seeds."
    return text + "With one seed, differences between variants are not yet established."


def _listed(names: Sequence[str]) -> Pieces:
    pieces: Pieces = [piece for name in names for piece in (", ", Code(name))]
    return pieces[1:]


def _text(pieces: Pieces) -> str:
    """Pieces as Markdown on one line, fit for the cell of a table."""
    parts = []
    for piece in pieces:
        if isinstance(piece, Code):
            parts.append(f"`{piece.text}`")
        elif isinstance(piece, Number):
            parts.append(piece.text)
        else:
            parts.append(piece.replace("|", r"\|"))
    return " ".join("".join(parts).split())


def _table(shown: tables.Table | None) -> list[str]:
    """A caption and the rows, or nothing."""
    if shown is None:
        return []
    lines = [
        "| " + " | ".join(map(_line, shown["columns"])) + " |",
        "|" + " --- |" * len(shown["columns"]),
        *("| " + " | ".join(_text(cell) for cell in row) + " |" for row in shown["rows"]),
    ]
    return [f"**{_line(shown['caption'])}**", "\n".join(lines)]


def _line(text: str) -> str:
    return _text([text])
