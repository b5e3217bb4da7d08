"""The settings of the Parzen-window score."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ParzenSettings:
    """Which images choose sigma, which are scored, and the grid of sigmas."""

    protocol: str  # disjoint or paper
    n_valid: int | str  # images on which a sigma is chosen, or auto
    n_test: int | str  # images on which the score is taken, or auto
    sigma_log10_min: float
    sigma_log10_max: float
    sigma_count: int
    refine: bool  # whether a bounded search between the grid's sigmas follows
