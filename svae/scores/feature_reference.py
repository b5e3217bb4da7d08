"""Distances in features of a data set's own images: the reference of all runs, floors, and sanity
rows.

The reference are test images, the same for every run. Its features, and what follows from them, are
computed once per data set. All sets that are compared with it have one size where they can, because
the distances depend on it.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.errors import UserError
from svae.features.network import Network, open_network
from svae.features.pretrained import missing
from svae.jobs.files import checked, read_npz, replacing
from svae.scores import frechet, kernel_distance, neighbourhoods
from svae.scores.principal_components import most_images
from svae.scores.sanity_rows import ROWS, real
from svae.scores.scored_images import scored_images
from svae.streams import Stream, generator

log = logging.getLogger(__name__)

FEWEST = kernel_distance.BLOCKS * kernel_distance.SMALLEST  # images of a set
TRAINING = "training images"
HALVES = "training images, against other training images"


@dataclass(frozen=True, eq=False)
class Reference:
    """Features (m, d) of test images, in random order, and what comparisons with them need."""

    features: np.ndarray
    """float32 (m, d)."""
    gaussians: frechet.Reference
    radii: np.ndarray
    """Squared, float32 (m,): svae.scores.neighbourhoods.radii."""

    @classmethod
    def of(cls, features: np.ndarray) -> "Reference":
        return cls(features, frechet.Reference(features), neighbourhoods.radii(features))

    def compare(self, features: np.ndarray) -> dict[str, Any]:
        """All distances of float32 features (n, d), in random order, from these, for JSON."""
        distance, infinite = frechet.distances(features, self.gaussians)
        kernel = kernel_distance.estimate(features, self.features)
        return {
            "n_images": len(features),
            "frechet_distance": distance,
            "frechet_distance_infinite": infinite,
            "kernel_distance": kernel.distance,
            "kernel_distance_standard_error": kernel.standard_error,
            "kernel_distance_spread_of_blocks": kernel.spread,
            **neighbourhoods.measures(features, self.features, self.radii),
        }


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `fit` found, and `load` reads."""

    content: dict[str, Any]
    """network, network_sha256, side, dataset_checksum, the numbers of images n_images and
    n_reference, and rows: name, meaning and distances of each stand-in. Or refused, the reason."""
    features: np.ndarray
    """Of the reference; empty if it is refused."""


def fit(
    data: Path | str, features: str, images: int, n_samples: int, seed: int, threads: int = 1
) -> Fitted:
    """The reference of the h5 store `data` in a network (svae.features.network.open_network).

    images: most images of each set. n_samples: those that a run has; no set has more. seed: of
    floors and sanity rows. threads: for the arithmetic that TensorFlow does not do.
    """
    with Store(data) as store, threadpool_limits(limits=threads, user_api="blas"):
        found: dict[str, Any] = {"dataset_checksum": store.checksum}
        nothing = np.zeros((0, 0), np.float32)
        n_reference, n_images = sizes(store, images, n_samples)
        if min(n_reference, n_images) < FEWEST:
            few = (
                f"distances in features need at least {FEWEST} images of each set, but there are "
                f"{n_reference} test images and {n_images} samples or training images"
            )
            return Fitted({**found, "refused": few}, nothing)
        if reason := missing(features):
            return Fitted({**found, "refused": reason}, nothing)
        network = open_network(features, store.shape)
        test = network.features(scored_images(store, "test", n_reference))
        reference = Reference.of(shuffled(test))
        rows = list(_rows(store, network, reference, n_images, n_samples, seed))
    found |= {
        "network": network.title,
        "network_sha256": network.sha256,
        "side": list(network.side),
        "n_features": test.shape[1],
        "n_images": n_images,
        "n_reference": n_reference,
        "rows": rows,
    }
    return Fitted(found, reference.features)


def sizes(store: Store, images: int, n_samples: int) -> tuple[int, int]:
    """The numbers of images of the reference and of each set that is compared with it: such that
    two disjoint sets of training images, of these sizes, exist, and that each fits into
    svae.scores.principal_components.MOST_BYTES."""
    train, most = store.count("train"), min(images, most_images(store))
    reference = min(most, store.count("test"), train // 2)
    return reference, min(most, n_samples, train - reference)


def shuffled(features: np.ndarray) -> np.ndarray:
    """The rows in random order, the same one for equal numbers of rows."""
    return features[generator(0, Stream.FEATURES_ORDER).permutation(len(features))]


def save(fitted: Fitted, target: Path | str) -> None:
    """Write npz, whole or not at all."""
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.savez(
            file, content=json.dumps(fitted.content, allow_nan=False), features=fitted.features
        )


def load(path: Path | str) -> Fitted:
    """What `save` wrote; Damaged if the file has it no more."""
    with checked(path):
        file = read_npz(path)
        return Fitted(json.loads(file["content"].item()), file["features"])


def _rows(
    store: Store, network: Network, reference: Reference, n_images: int, n_samples: int, seed: int
) -> Iterator[dict[str, Any]]:
    """The floors, then the sanity rows."""
    n_reference = len(reference.features)
    rng = generator(seed, Stream.FEATURES_TRAIN)
    train = network.features(subset(store.split("train"), n_images + n_reference, rng))
    train = train[rng.permutation(len(train))]
    first, others = train[:n_images], train[n_images:]
    yield _row(
        TRAINING,
        "The floor: as many real images as samples. Nothing below it can be distinguished.",
        reference.compare(first),
    )
    yield _row(
        HALVES,
        "The floor between two sets of one split; if it is well below the other floor, training "
        "and test images differ.",
        Reference.of(shuffled(others)).compare(first),
    )
    for row in ROWS:
        if row.make is real:  # as the first floor
            continue
        samples, _ = row.make(store, min(n_samples, most_images(store)), seed)
        if len(samples) < FEWEST:
            log.info("%s: %d images, too few for distances in features", row.name, len(samples))
            continue
        chosen = subset(samples, min(n_images, len(samples)), rng)
        yield _row(row.name, row.meaning, reference.compare(shuffled(network.features(chosen))))


def _row(name: str, meaning: str, values: dict[str, Any]) -> dict[str, Any]:
    log.info("%s: Fréchet distance %.3f in features", name, values["frechet_distance"])
    return {"name": name, "meaning": meaning, **values}


def network_of(fitted: Fitted, features: str, store: Store, path: Path | str) -> Network:
    """The network that the reference was made with. UserError if it is another one by now, or if
    the reference is of other images."""
    network = open_network(features, store.shape)
    found = fitted.content["network_sha256"], fitted.content["dataset_checksum"]
    if found != (network.sha256, store.checksum):
        raise UserError(
            f"{path} is of another network or of other images; delete it, run snakemake"
        )
    return network
