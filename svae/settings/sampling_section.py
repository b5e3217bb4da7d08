"""The section `sampling` as config.yaml has it; svae.config.resolve divides it among the stages.

In a module of its own, because samples and scores depend on the settings of their stage only.
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
