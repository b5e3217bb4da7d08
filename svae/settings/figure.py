"""The settings of the comparison figure."""

from dataclasses import dataclass
from typing import Literal

from svae.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class FigureSettings:
    """The section `figure`."""

    columns: int = setting(10, "images in a row", minimum=1, maximum=30)
    seeds: Literal["first", "all"] = setting("first", "the seeds of each variant that have a row")
    training_images: bool = setting(True, "whether the training images have a row")
