"""The settings of the Parzen-window score."""

from dataclasses import dataclass
from typing import Literal

from svae.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class ParzenSettings:
    """Which images choose sigma, which are scored, and the grid of sigmas."""

    protocol: Literal["disjoint", "paper"] = setting("disjoint", "which images choose sigma")
    n_valid: Literal["auto"] | int = setting(
        "auto", "images on which each sigma is tried", minimum=2
    )
    n_test: Literal["auto"] | int = setting(
        "auto", "images on which the score is computed", minimum=2
    )
    sigma_log10_min: float = setting(-1.0, "log10 of the smallest sigma", minimum=-4, maximum=2)
    sigma_log10_max: float = setting(0.0, "log10 of the largest sigma", minimum=-4, maximum=2)
    sigma_count: int = setting(
        10, "number of sigmas, evenly spaced in log sigma", minimum=1, maximum=1000
    )
    refine: Literal["auto"] | bool = setting(
        "auto",
        "whether sigma is also searched for between those of the grid; auto: yes, if disjoint",
    )
