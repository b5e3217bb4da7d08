"""The settings of the export of a run."""

from dataclasses import dataclass
from typing import Literal

from svae.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """The section `export`."""

    n_images: Literal["auto"] | int = setting(
        "auto", "samples, and test images, that are written as PNG files", minimum=1
    )
    images: str | None = setting(
        None, "your images whose latents are written: a folder, a zip or a tar archive"
    )
