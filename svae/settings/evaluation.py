"""The settings of what is measured in addition to the Parzen score."""

from dataclasses import dataclass
from typing import Literal

from svae.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """The section `evaluation`: how much of the test images and of the samples is looked at."""

    importance_samples: int = setting(
        64,
        "k, importance samples per image of the bound on log p(x)",
        minimum=1,
        maximum=1_000_000,
    )
    bound_images: Literal["auto"] | int = setting(
        "auto", "test images on which the bound is taken", minimum=2
    )
    decoder_variance: float | None = setting(
        None,
        "variance of the decoder for the bound, or null for the trained one",
        exclusive_minimum=0,
    )
    distance_images: int = setting(
        4096, "most pictures in a sliced Wasserstein distance", minimum=2, maximum=100_000
    )
