"""The settings of the samples."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingSettings:
    """How many samples, and how they are decoded."""

    n_samples: int
    batch_size: int  # images a batch; decides the result only with batch statistics
    batch_norm: str  # moving: the re-estimated statistics; batch: those of each batch
