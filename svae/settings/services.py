"""The settings of what accompanies a training and does not affect its result."""

from dataclasses import dataclass

from svae.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """The section `checkpoints`: when a training saves its state, in addition to every epoch."""

    minutes: float = setting(
        10.0, "minutes between checkpoints within an epoch", exclusive_minimum=0, maximum=100_000
    )


@dataclass(frozen=True, kw_only=True)
class TensorBoardSettings:
    """The section `tensorboard`."""

    picture_epochs: int = setting(
        10,
        "epochs between pictures of samples and reconstructions, 0 for none",
        minimum=0,
        maximum=1_000_000,
    )


@dataclass(frozen=True, kw_only=True)
class Services:
    """Both sections, as the argument of a training."""

    checkpoints: CheckpointSettings = CheckpointSettings()
    tensorboard: TensorBoardSettings = TensorBoardSettings()
