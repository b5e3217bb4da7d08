"""The table of families: their log ratios to linear VAEs and their SSE at a common rate."""

from typing import Any

from svae.report.numbers import Code, Document, Pieces, table, value

Table = dict[str, Any]


def family_table(summary: Document) -> Table | None:
    """One row per family of results/rate_distortion.json; None if no family has a curve."""
    if summary.get("common_rate_nats") is None:
        return None
    several = len(summary.get("seeds")) > 1
    columns = ["family", "mean log ratio ± s.e. over test images"]
    columns += ["s.e. over seeds"] if several else []
    columns += ["SSE at the common rate ± s.e. over test images"]
    columns += ["s.e. over seeds"] if several else []
    rows: list[list[Pieces]] = []
    for index, family in enumerate(summary.get("families")):
        row: list[Pieces] = [[Code(family["name"])]]
        for name, form in (("mean_log_ratio", ".4f"), ("sse", ".1f")):
            key = f"families.{index}.{name}"
            sign = "+" if name == "mean_log_ratio" else ""
            over_images = value(summary, f"{key}_standard_error_over_images", form)
            row.append([value(summary, key, f"{sign}{form}"), " ± ", over_images])
            if several:
                row.append([value(summary, f"{key}_standard_error_over_seeds", form)])
        rows.append(row)
    return table("Families of KL weights: squared error at equal rate", columns, rows)


def reading(summary: Document) -> Pieces:
    """How the table of families is to be read, or why there is none; [] without families."""
    if not summary.get("families"):
        return []
    if summary.get("common_rate_nats") is None:
        return [
            "There is no range of rates that the curves of all families and seeds share, so that "
            "the log ratio has no mean over it."
        ]
    return [
        "The runs of a family are points of one curve of distortion over rate. Its log ratio is "
        "the natural logarithm of the SSE over that of the linear VAE (PCA) with as many latent "
        "entries at the same rate, on the same test images: below 0, the family is better. The "
        "mean is over the logarithm of the rates that all families reach, ",
        value(summary, "lowest_common_rate_nats", ".3g"),
        " to ",
        value(summary, "highest_common_rate_nats", ".3g"),
        " nats; the common rate is the middle of these, ",
        value(summary, "common_rate_nats", ".3g"),
        " nats. Between runs, the log ratio is interpolated linearly.",
    ]
