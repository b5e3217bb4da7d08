"""What accompanies a training and decides nothing of its result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Services:
    """How often a training saves its state and draws pictures."""

    checkpoint_minutes: float  # between checkpoints, beside the one of every epoch
    picture_epochs: int  # between TensorBoard's samples and reconstructions; 0: none
