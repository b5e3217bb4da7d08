"""A trained model for use in Python: bytes in, bytes out.

    from svae import load

    model = load("runs/mnist_5k/low_rank/seed-0")
    images = model.sample(16, seed=0)

docs/use-a-trained-model.md shows each method.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

import svae
from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.errors import UserError
from svae.model import batch_norm as statistics
from svae.model.saved import load_model
from svae.model.vae import SpatialVAE, scaled
from svae.pixels import to_bytes
from svae.sampling.examples import BATCH, STATISTICS
from svae.streams import Stream, generator
from svae.use import tensorflow_export
from svae.use.inputs import Images, checked_images, checked_latents, checked_whole
from svae.use.latents import BLOCK, Encoded, LatentPrior, in_blocks
from svae.use.unseeded import seeds_kept


class TrainedModel:
    """The model of a finished run.

    Images are uint8 (n, height, width, channel); latents are float32 (n, d, d, N), N feature maps
    of d x d entries. Every method raises a UserError for other input, and works block by block: in
    addition to what it gets and returns, it needs little memory. Images may also be an open h5 data
    set, such as a split of data/DATASET.h5.

    Attributes:
        image_shape: (height, width, channel).
        latent_shape: (d, d, N).
        prior: p(z), a LatentPrior.
        record: the content of run.json.
    """

    def __init__(self, model: SpatialVAE, record: dict[str, Any], of_means: SpatialVAE):
        """of_means: the model, or the one whose decoder has the batch-norm statistics of means."""
        self.image_shape: tuple[int, int, int] = model.image_shape
        self.latent_shape: tuple[int, int, int] = model.latent_shape
        self.prior = LatentPrior(model)
        self.record = record
        self._model, self._of_means = model, of_means
        for norm in statistics.layers(model):
            norm.momentum = 1.0  # decoding with batch statistics leaves the moving ones as they are
        self._encoder_outputs = _compiled(lambda images: model.encoder_outputs(scaled(images)))
        self._decoded = _compiled(model.decode)
        self._decoded_by_batch = _compiled(lambda z: model.decode(z, batch_statistics=True))
        self._decoded_means = _compiled(of_means.decode)

    def sample(
        self,
        n: int,
        seed: int = 0,
        *,
        batch_norm: Literal["moving", "batch"] = "moving",
        batch_size: int = BLOCK,
    ) -> np.ndarray:
        """Return n images of latents from the prior.

        The same seed gives the same images; the first ones do not depend on n. With the seed of the
        run and the settings of the section `sampling`, they are those of its samples.h5, as bytes.

        batch_norm: `moving`, the statistics of the training images; `batch`, those of each batch of
        `batch_size` images, of which n must then be a multiple.
        """
        z = self.prior.sample(n, seed)
        size = checked_whole(batch_size, "batch_size", 1)
        if batch_norm not in ("moving", "batch"):
            raise UserError(f"batch_norm must be 'moving' or 'batch', not {batch_norm!r:.60}")
        if batch_norm == "moving":
            return self._bytes(self._decoded, z, size)
        if size < 2 or len(z) % size:
            raise UserError(
                f"with batch_norm 'batch', batch_size must be at least 2 and n a multiple of it, "
                f"but they are {size} and {len(z)}; change one of the two"
            )
        return self._bytes(self._decoded_by_batch, z, size)

    def encode(self, images: Images) -> Encoded:
        """Return the posteriors q(z | x) of images."""
        images = checked_images(images, self.image_shape)

        def compute(start: int, stop: int) -> np.ndarray:
            return self._encoder_outputs(tf.constant(images[start:stop])).numpy()

        return Encoded(self._model, in_blocks(len(images), compute))

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Return the images of latents, such as samples of the prior or of a posterior."""
        return self._bytes(self._decoded, checked_latents(z, self.latent_shape))

    def reconstruct(self, images: Images) -> np.ndarray:
        """Return the images of the posterior means.

        If the model was loaded with its data, the decoder uses the batch-norm statistics of
        posterior means (svae.model.batch_norm), as in the report.
        """
        return self._bytes(self._decoded_means, self.encode(images).mean)

    def interpolate(self, a: Images, b: Images, steps: int = 9) -> np.ndarray:
        """Return uint8 (n, steps, height, width, channel): n paths from images `a` to images `b`.

        Decoded at equal steps from one posterior mean to the other, both included, with the
        statistics that `reconstruct` uses.
        """
        steps = checked_whole(steps, "steps", 2)
        a, b = (
            checked_images(images, self.image_shape, name) for images, name in ((a, "a"), (b, "b"))
        )
        if len(a) != len(b):
            raise UserError(
                f"a has {len(a)} images and b has {len(b)}; give one end of each path in each"
            )
        first, last = self.encode(a).mean, self.encode(b).mean
        share = np.linspace(0, 1, steps, dtype=np.float32)[:, None, None, None]

        def path(start: int, stop: int) -> np.ndarray:
            z = (1 - share) * first[start] + share * last[start]
            return self._bytes(self._decoded_means, z)[None]

        return in_blocks(len(first), path, block=1)

    def save_tensorflow(self, folder: Path | str) -> None:
        """Write a SavedModel, which needs no svae to run: see svae.use.tensorflow_export.

        UserError if the folder exists.
        """
        tensorflow_export.write(self._model, self._of_means, folder)

    def _bytes(self, decode: Any, z: np.ndarray, block: int = BLOCK) -> np.ndarray:
        def compute(start: int, stop: int) -> np.ndarray:
            return to_bytes(decode(tf.constant(z[start:stop])).numpy())

        return in_blocks(len(z), compute, block)


def load(folder: Path | str, data: Path | str | None = None) -> TrainedModel:
    """Return the model of the finished run in `folder`, such as runs/mnist_5k/low_rank/seed-0.

    data: the h5 store that it was trained on, data/DATASET.h5. With it, reconstructions and
    interpolations use the batch-norm statistics of posterior means, those of up to 2,000 training
    images; without it, the statistics of the run, which fit samples.

    The generators of Python, NumPy, TensorFlow and Keras keep their state. UserError if the folder
    has no finished run, its files were changed or are those of another version, or if the store has
    other images than the run was trained on.
    """
    with seeds_kept():
        try:
            model, record = load_model(folder)
            of_means = model if data is None else _with_statistics_of_means(model, record, data)
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(
                f"the run in {folder} cannot be loaded by svae {svae.__version__} "
                f"({type(error).__name__}: {error}); give the folder of a run that this version "
                f"trained"
            ) from error
    return TrainedModel(model, record, of_means)


def _with_statistics_of_means(
    model: SpatialVAE, record: dict[str, Any], data: Path | str
) -> SpatialVAE:
    """A copy of the model for decoding means, with the statistics that svae.sampling.examples
    uses."""
    with Store(data) as store:
        if store.checksum != record["dataset_checksum"]:
            raise UserError(
                f"{data} has other images than the run was trained on ({record['dataset']}); give "
                f"the store of its training, or none"
            )
        train = store.split("train")
        rng = generator(0, Stream.MEANS_STATISTICS)
        chosen = subset(train, min(STATISTICS, len(train)), rng)
    copy = model.in_float32()
    statistics.reestimate(copy, np.array_split(chosen, -(-len(chosen) // BATCH)), sampled=False)
    return copy


def _compiled(function: Any) -> Any:
    return tf.function(function, reduce_retracing=True)
