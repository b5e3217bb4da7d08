"""What the section `sampling` asks for after the training, in prior.h5 of a run."""

from dataclasses import dataclass


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
