"""The section `sampling` as config.yaml has it, and what it asks for after the training.

That is a prior fitted to posteriors, and batch-norm statistics of prior samples.

In a module of its own, because samples and scores without any of that do not depend on it.
"""

from dataclasses import dataclass
from typing import Literal

from svae.settings.fields import setting
from svae.settings.sampling import SamplingSettings


@dataclass(frozen=True, kw_only=True)
class SamplingSection(SamplingSettings):
    """The section `sampling`: in addition, the distribution of the latents."""

    prior: Literal["standard", "gaussian", "mixture"] = setting(
        "standard", "distribution of the latents: N(0, I), or one fitted to posteriors"
    )
    components: int = setting(50, "Gaussians of prior mixture", minimum=1, maximum=1000)


@dataclass(frozen=True, kw_only=True)
class PriorSettings:
    """What prior.h5 of a run contains."""

    prior: str
    """standard, gaussian or mixture."""
    components: int
    """Of the mixture; 1 for the other priors."""
    statistics: bool
    """Whether it has batch-norm statistics of prior samples."""

    @property
    def needed(self) -> bool:
        """Whether sampling needs the file."""
        return self.prior != "standard" or self.statistics
