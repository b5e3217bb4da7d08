"""The settings of the samples."""

from dataclasses import dataclass, field
from typing import Literal

from svae.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How many samples, and how they are decoded."""

    n_samples: int = setting(
        10_000, "samples drawn from the prior, and used by the score", minimum=2, maximum=10_000_000
    )
    # Affects the result only with batch statistics.
    batch_size: int = setting(100, "samples decoded at once", minimum=1, maximum=1_000_000)
    batch_norm: Literal["moving", "prior", "batch"] = setting(
        "moving",
        "statistics that batch norm uses in the decoder: of posterior or prior samples, "
        "or of each batch",
    )
    # Resolved from svae.settings.sampling_section: what is taken from prior.h5 in the run folder.
    fitted_prior: bool = field(default=False, metadata={"neutral": False, "resolved": True})
    prior_statistics: bool = field(default=False, metadata={"neutral": False, "resolved": True})
