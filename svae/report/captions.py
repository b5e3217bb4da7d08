"""The pictures of the report: headings, captions, and what they show in words."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svae.errors import UserError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """Texts of one picture; {title} in them is the data set's, {variants} their names."""

    heading: str
    caption: str
    alt: str
    plot: bool = False  # with axes whose labels must stay readable on a narrow screen


COMPARISON = Picture(
    "Training images and samples",
    "A row of training images, then the first samples of each variant, in the order they were "
    "drawn: none was chosen, and no picture is stretched in contrast. Next to each row: w, the KL "
    "weight, and the rate, the mean KL of the test images in nats.",
    "Rows of small images of {title}. The first row holds training images, the rows below it "
    "samples of {variants}, with the KL weight w and the rate next to each row.",
)

# In the order of the page, by the name of the file in results/.
PICTURES = {
    "sigma_curves": Picture(
        "Choice of sigma",
        "Mean log-likelihood of the images that choose sigma, the kernel's width, by sigma; the "
        "one that was taken is marked. A maximum at the edge of the grid would mean that the grid "
        "is too narrow.",
        "Curves of validation log-likelihood in nats per image over sigma, one for each of "
        "{variants}, with the chosen sigma marked on each.",
        plot=True,
    ),
    "paired_differences": Picture(
        "Differences between variants",
        "Mean difference of the scores of the same test images, for each pair of variants, with "
        "error bars of its standard error over test images.",
        "Points with error bars: the mean difference in nats per image for every pair of "
        "{variants}, beside a line at zero.",
        plot=True,
    ),
    "score_against_kl_weight": Picture(
        "Score against KL weight",
        "Parzen-window log-likelihood over the weight w of the KL. Where variants of unequal w "
        "are compared, w alone may explain the order.",
        "Parzen-window log-likelihood in nats per image over the KL weight, one point with an "
        "error bar for each of {variants}.",
        plot=True,
    ),
    "kl_per_map": Picture(
        "KL of each latent map",
        "KL divergence between posterior and prior in each latent map, mean over the test images, "
        "in nats: maps near zero carry nothing.",
        "The KL of the latent maps in nats, for each of {variants}.",
        plot=True,
    ),
    "training_curves": Picture(
        "Training",
        "Objective, squared error, KL, active maps and learning rate by epoch, of training and of "
        "validation images.",
        "Panels of curves over epochs for {variants}: objective, mean squared error per pixel, KL, "
        "active latent maps and learning rate; training dashed, validation solid.",
        plot=True,
    ),
    "reconstructions": Picture(
        "Reconstructions",
        "Test images, and below each what every variant makes of it from its posterior's mean.",
        "Rows of images of {title}: test images, and their reconstructions by {variants}.",
    ),
    "interpolations": Picture(
        "Interpolations",
        "From one test image to another along a straight line in latent space, between the means "
        "of their posteriors, decoded at equal steps.",
        "Rows of images of {title} that change step by step from one test image to another, for "
        "{variants}.",
    ),
    "neighbours": Picture(
        "Nearest training images",
        "Samples, and below each the training image nearest to it in squared distance of pixels. "
        "A sample that equals its neighbour would be a copy.",
        "Rows of images of {title}: samples of {variants}, and the nearest training image of each.",
    ),
    "dataset": Picture(
        "Data set",
        "Images of every split, at even distances from the first to the last.",
        "A contact sheet of {title}: rows of training, validation and test images, with the number "
        "of images of each split and how the splits were made.",
    ),
}


def samples_of(variant: str) -> Picture:
    return Picture(
        f"Samples of {variant}",
        f"Images that {variant} generates: means of the decoder for latents drawn from the prior.",
        f"A grid of small images that {variant} generates for {{title}}.",
    )


def embedded(
    picture: Picture, path: Path | str, title: str, variants: Sequence[str]
) -> dict[str, Any]:
    """The picture for the template: its texts, and the file as a data URI, with its size in pixels.

    UserError if the file is no PNG.
    """
    content = Path(path).read_bytes()
    if not content.startswith(_SIGNATURE) or len(content) < 24:
        raise UserError(f"{path} is no PNG; delete it and run snakemake again")
    width, height = struct.unpack(">II", content[16:24])
    words = {"title": title, "variants": _listed(variants)}
    return {
        "heading": picture.heading,
        "caption": picture.caption,
        "alt": picture.alt.format(**words),
        "plot": picture.plot,
        "file": Path(path).as_posix(),
        "uri": f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}",
        "width": width,
        "height": height,
    }


def pictures(
    figures: Mapping[str, Path | str],
    samples: Mapping[str, Path | str],
    title: str,
    variants: Sequence[str],
) -> dict[str, Any]:
    """`comparison`, and `others` in the order of the page, the samples behind the interpolations.

    ValueError for a figure that has no texts here.
    """
    unknown = set(figures) - {*PICTURES, "comparison"}
    if unknown:
        raise ValueError(f"no captions for the figures {sorted(unknown)}")
    others = []
    for name, picture in PICTURES.items():
        if name in figures:
            others.append(embedded(picture, figures[name], title, variants))
        if name == "interpolations":
            others += [
                embedded(samples_of(variant), path, title, [variant])
                for variant, path in samples.items()
            ]
    first = figures.get("comparison")
    return {
        "comparison": None if first is None else embedded(COMPARISON, first, title, variants),
        "others": others,
    }


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
