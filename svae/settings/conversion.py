"""The settings of the conversion of images into data/DATASET.h5."""

from dataclasses import dataclass
from typing import Literal

from svae.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class ConversionSection:
    """The section `conversion`, except the options of data sets, which are in sources.yaml.

    `svae.config.data.Conversion` has the resolved values for one data set.
    """

    crop: Literal["auto", "square"] | int | None = setting(
        "auto", "side of the centre crop in pixels", minimum=1, maximum=4096
    )
    size: Literal["auto"] | int | None = setting(
        "auto", "side in pixels to which images are then resized", minimum=1, maximum=4096
    )
    color: Literal["auto", "grey", "rgb"] = setting("auto", "colour of the stored images")
    max_images: int | None = setting(
        None, "most images of the data set, chosen by the hash of their names", minimum=20
    )
    on_broken_image: Literal["stop", "skip"] = setting(
        "stop", "what to do about an image that cannot be read"
    )
