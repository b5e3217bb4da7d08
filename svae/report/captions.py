"""The pictures of the report: headings, captions, alternative texts, and the embedded files.

Captions are those of `snakemake --report`, in rules/captions/.
"""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svae.errors import Damaged

CAPTIONS = Path(__file__).parents[2] / "rules/captions"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """What the page says about a picture in addition to its caption.

    {title} in the alternative text is the title of the data set, {variants} the variants' names.
    """

    heading: str
    alt: str
    plot: bool = False
    """Whether it has axes, whose labels must stay readable on a narrow screen."""


COMPARISON = Picture(
    "Training images and samples",
    "Rows of small images of {title}. The first row holds training images, the rows below it "
    "samples of {variants}, with the KL weight w and the rate next to each row.",
)

# In the order of the page, by the name of the file in results/.
PICTURES = {
    "sigma_curves": Picture(
        "Choice of sigma",
        "Curves of validation log-likelihood in nats per image over sigma, one for each of "
        "{variants}, with the chosen sigma marked on each.",
        plot=True,
    ),
    "paired_differences": Picture(
        "Compared variants",
        "One dot with an error bar for each comparison among {variants}: the mean difference and "
        "its interval, next to a line at zero.",
        plot=True,
    ),
    "score_against_kl_weight": Picture(
        "Score against KL weight",
        "Parzen-window log-likelihood in nats per image over the KL weight, one point with an "
        "error bar for each of {variants}.",
        plot=True,
    ),
    "rate_distortion": Picture(
        "Rate and distortion",
        "Two panels over the rate in nats per image, one point for each run of {variants}: the "
        "squared error, next to curves of linear VAEs, and the logarithm of its ratio to theirs.",
        plot=True,
    ),
    "kl_per_map": Picture(
        "KL of each latent map",
        "The KL of the latent maps in nats, for each of {variants}.",
        plot=True,
    ),
    "training_curves": Picture(
        "Training",
        "Panels of curves over epochs for {variants}: objective, mean squared error per pixel, KL, "
        "active latent maps and learning rate.",
        plot=True,
    ),
    "reconstructions": Picture(
        "Reconstructions",
        "Rows of images of {title}: test images, and their reconstructions by {variants}.",
    ),
    "interpolations": Picture(
        "Interpolations",
        "Rows of images of {title} that change step by step from one test image to another, for "
        "{variants}.",
    ),
    "neighbours": Picture(
        "Nearest training images",
        "Rows of images of {title}: samples of {variants}, and the nearest training image of each.",
    ),
    "dataset": Picture(
        "Data set",
        "A contact sheet of {title}: rows of training, validation and test images, with the number "
        "of images of each split and how the splits were made.",
    ),
}


def caption(name: str) -> str:
    """Return the caption of a picture, on one line. name: that of its file in rules/captions/."""
    text = (CAPTIONS / f"{name}.rst").read_text(encoding="utf-8")
    return " ".join(text.split())


def samples_of(variant: str) -> Picture:
    return Picture(
        f"Samples of {variant}", f"A grid of small images that {variant} generates for {{title}}."
    )


def embedded(
    name: str, picture: Picture, path: Path | str, title: str, variants: Sequence[str]
) -> dict[str, Any]:
    """Return a picture for the template: its texts, and the file as a data URI, with its size.

    name: that of its caption. Damaged if the file is not a whole PNG.
    """
    content = Path(path).read_bytes()
    if not _whole(content):
        raise Damaged(f"{path} is damaged or not a PNG; delete it and run snakemake again")
    width, height = struct.unpack(">II", content[16:24])
    words = {"title": title, "variants": _listed(variants)}
    return {
        "heading": picture.heading,
        "caption": caption(name),
        "alt": picture.alt.format(**words),
        "plot": picture.plot,
        "file": Path(path).as_posix(),
        "uri": f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}",
        "width": width,
        "height": height,
    }


def _whole(content: bytes) -> bool:
    """Whether this is a PNG whose chunks have their checksums, up to the last one. Pillow's
    `verify` overlooks damage to the last two."""
    kind, place = b"", len(_SIGNATURE)
    while content.startswith(_SIGNATURE) and place + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8]
        end = place + 8 + size
        if content[end : end + 4] != zlib.crc32(content[place + 4 : end]).to_bytes(4, "big"):
            return False
        place = end + 4
    return kind == b"IEND" and place == len(content)


def pictures(
    figures: Mapping[str, Path | str],
    samples: Mapping[str, Path | str],
    title: str,
    variants: Sequence[str],
) -> dict[str, Any]:
    """Return `comparison`, and `others` in the order of the page: samples follow interpolations.

    ValueError for a figure that has no texts here.
    """
    unknown = set(figures) - {*PICTURES, "comparison"}
    if unknown:
        raise ValueError(f"no texts for the figures {sorted(unknown)}")
    others = []
    for name, picture in PICTURES.items():
        if name in figures:
            others.append(embedded(name, picture, figures[name], title, variants))
        if name == "interpolations":
            others += [
                embedded("samples", samples_of(variant), path, title, [variant])
                for variant, path in samples.items()
            ]
    first = figures.get("comparison")
    return {
        "comparison": None
        if first is None
        else embedded("comparison", COMPARISON, first, title, variants),
        "others": others,
    }


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
