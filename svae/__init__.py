"""Spatial variational auto-encoders: does a VAE get better with small feature maps as its latent?

    from svae import load

    model = load("runs/mnist_5k/low_rank/seed-0")

gives a trained model (docs/use-a-trained-model.md). Importing this package imports neither
TensorFlow nor h5py; `load` and the modules below it do, where needed.
"""

from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def load(folder: Path | str, data: Path | str | None = None) -> Any:
    """Return the model of the finished run in `folder`, a TrainedModel.

    See svae.use.trained_model, which has the arguments, too.
    """
    # Here, because it imports TensorFlow.
    from svae.use import trained_model

    return trained_model.load(folder, data)
