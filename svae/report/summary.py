"""The table of all variants, as CSV with every column and as Markdown for readers.

Both show the same numbers, tables and warnings as the report page.
"""

import csv as csv_module
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from svae.jobs.files import replacing
from svae.report import difference_tables, tables
from svae.report.answer import answer
from svae.report.numbers import Code, Document, Number, Piece, Pieces, joined, mean
from svae.report.score_tables import in_csv, method, refusals, score_table
from svae.report.study import Files, Study, read
from svae.report.warning_list import warnings

# Column -> key in run.json; the column has the mean over the seeds.
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
# Copied from the first seed.
TEXTS = ("objective", "dataset", "dataset_checksum")


def summarise(
    files: Files,
    attributes: Mapping[str, Any],
    license: str,
    csv: Path | str,
    markdown: Path | str,
    pairs: Path | str,
) -> None:
    """Write one row per variant to `csv`, one row per measure and comparison to `pairs`, and all of
    it in words and tables to `markdown`.

    attributes: of the store. license: terms of use of its images. With several seeds, numbers are
    means over them. UserError if values of single images cannot be paired.
    """
    study = read(attributes["title"], files)
    rows = [_row(study, name) for name in study.variants]
    differences = list(difference_tables.rows(study))
    text = _markdown(study, attributes, license)
    _write_csv(rows, csv)
    _write_csv(differences, pairs)
    with replacing(markdown) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _row(study: Study, name: str) -> dict[str, Any]:
    records = study.records(name)
    first = records[0]
    return {
        "variant": name,
        "posterior": first.get("settings.posterior"),
        "seeds": " ".join(map(str, study.seeds)),
        **in_csv(study, name),
        **_means(records, RECORD),
        "spikes": sum(len(record.get("spikes") or []) for record in records),
        **{key: first.get(key) for key in TEXTS},
        "warnings": "; ".join(
            dict.fromkeys(text for record in records for text in record.get("warnings") or [])
        ),
    }


def _means(documents: Sequence[Document], columns: Mapping[str, str]) -> dict[str, Piece]:
    return {column: mean(documents, key, ".6g") for column, key in columns.items()}


def _write_csv(rows: Sequence[Mapping[str, Any]], target: Path | str) -> None:
    """Numbers in full; an empty field stands for none."""
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
    blocks = [f"# {_text([study.title])}", *map(_text, answer(study))]
    blocks += [f"**Warning:** {_text(warning)}" for warning in warnings(study, attributes)]
    blocks += ["## Scores", _what_errors_cover(study)]
    for score in study.measured():
        blocks += _table(score_table(study, score))
        how = tables.protocol(study) if score.name == "parzen" else method(study, score)
        blocks.append(_text([f"{score.meaning} ", *how]))
        blocks += [
            _text(
                [
                    f"{score.title}: refused for ",
                    *joined([[Code(name)] for name in names]),
                    f": {reason}.",
                ]
            )
            for names, reason in refusals(study, score)
        ]
    blocks += _table(tables.each_seed(study))
    compared = difference_tables.tables(study)
    if compared:
        blocks += ["## Differences between variants", difference_tables.reading(study)]
        blocks += [block for shown in compared for block in _table(shown)]
    blocks += ["## Sanity rows", *_table(tables.sanity(study))]
    blocks.append(_text(tables.sanity_reading(study)))
    blocks.append(f"Licence or terms of use of the images: {_text([license])}.")
    blocks.append(f"Data checksum (SHA-256 of the pixels): `{attributes['checksum']}`.")
    return "\n\n".join(blocks) + "\n"


def _what_errors_cover(study: Study) -> str:
    text = "±: one standard error over test images, which covers the choice of test images only."
    if study.several:
        return f"{text} Numbers are means over seeds, those in brackets their spread over seeds."
    return f"{text} With one seed, no difference between variants is established."


def _text(pieces: Pieces) -> str:
    """Pieces as Markdown on one line, also inside a table cell."""
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
    """A caption and the rows, or nothing for None."""
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
