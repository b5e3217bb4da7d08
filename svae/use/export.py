"""A trained model for programs that do not use this package: a folder with

samples/     samples of the run as PNG files, 0000.png and so on: the first of samples.h5
test/        as many test images of the data set: all, or random ones in the order of the store
latents.h5   the posteriors of these test images (group `test`) and of the user's images (group
             `images`): mean and variance float32 (n, d, d, N), kl float32 (n, N) in nats, and
             names and labels where the source has them
saved_model/1/  a TensorFlow SavedModel (svae.use.tensorflow_export), in the folder of a version
             as TensorFlow Serving expects it
export.json  where all of this comes from
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from svae.datasets import SPLITS
from svae.datasets.origins import labels, names
from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.errors import UserError
from svae.jobs.disk import disk_explained, only_writer, scratch_folder
from svae.jobs.files import flush, flush_tree, write_json
from svae.jobs.hdf5 import new_hdf5
from svae.jobs.provenance import software
from svae.pixels import to_bytes
from svae.sampling.file import samples_of
from svae.scores.scored_images import SEED
from svae.settings.export import ExportSettings
from svae.streams import Stream, generator
from svae.use.own_images import Block, own_images, recipe_of
from svae.use.trained_model import TrainedModel, load

log = logging.getLogger(__name__)

_BLOCK = 100  # images


def export(
    data: Path | str,
    folder: Path | str,
    samples: Path | str,
    target: Path | str,
    settings: ExportSettings,
) -> None:
    """Write the folder `target` from the run in `folder`, whole or not at all.

    data: the h5 store of the run's data set; samples: the run's samples.h5. UserError if the files
    do not belong together, if there are fewer images than requested, if an image of the user cannot
    be used, or if the disk is full.
    """
    target = Path(target)
    model = load(folder, data)
    record = model.record
    with (
        disk_explained(target),
        only_writer(target),
        scratch_folder(target) as scratch,
        Store(data) as store,
        samples_of(samples, record, store.checksum) as drawn,
    ):
        whole = scratch / "whole"
        numbers = chosen_images(store, _count(settings, len(drawn), store.count("test")))
        count = len(numbers)
        _write_pngs(whole / "samples", (to_bytes(block) for block in _blocks(drawn, count)), count)
        _write_pngs(whole / "test", (block.images for block in test_images(store, numbers)), count)
        groups = {"test": test_images(store, numbers)}
        if settings.images is not None:
            groups["images"] = own_images(settings.images, recipe_of(store), model.image_shape)
        counts = _write_latents(whole / "latents.h5", model, groups, numbers)
        model.save_tensorflow(whole / "saved_model" / "1")
        write_json(whole / "export.json", _provenance(record, drawn, counts, settings))
        flush_tree(whole)
        whole.rename(target)
        flush(target.parent)
    log.info("%s: exported %d samples and as many test images", record["variant"], count)


def _count(settings: ExportSettings, samples: int, test: int) -> int:
    """How many samples, and test images, are written."""
    if settings.n_images == "auto":
        return min(samples, test)
    for available, what, remedy in (
        (samples, "samples", "or raise sampling.n_samples"),
        (test, "test images", "or write auto"),
    ):
        if settings.n_images > available:
            raise UserError(
                f"export.n_images is {settings.n_images}, but there are {available} {what}; lower "
                f"it, {remedy}"
            )
    return settings.n_images


def chosen_images(store: Store, count: int) -> np.ndarray:
    """The numbers of `count` test images in the store, ascending, (count,): those of
    svae.scores.scored_images, which a score of as many images is measured on."""
    rng = generator(SEED, Stream.SCORED_IMAGES, SPLITS.index("test"))
    return subset(np.arange(store.count("test")), count, rng)


def test_images(store: Store, numbers: np.ndarray) -> Iterator[Block]:
    """Yield these test images."""
    images = store.split("test")
    for start in range(0, len(numbers), _BLOCK):
        rows = numbers[start : start + _BLOCK].tolist()
        pixels = np.stack([images[row] for row in rows])
        yield Block(pixels, names(store, "test", rows), labels(store, "test", rows))


def _blocks(images: h5py.Dataset, count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, _BLOCK):
        yield images[start : min(start + _BLOCK, count)]


def _write_pngs(folder: Path, blocks: Iterable[np.ndarray], count: int) -> None:
    """Write uint8 images as 0000.png and so on; sorted by name, they are in their order."""
    folder.mkdir(parents=True)
    number, digits = 0, len(str(count - 1))
    for block in blocks:
        for image in block:
            pixels = image[..., 0] if image.shape[2] == 1 else image
            Image.fromarray(pixels).save(folder / f"{number:0{digits}d}.png")
            number += 1


def _write_latents(
    path: Path, model: TrainedModel, groups: dict[str, Iterator[Block]], numbers: np.ndarray
) -> dict[str, int]:
    """Write the posteriors of the images of each group; return the number of images of each.

    numbers: of the test images in the store.
    """
    counts = {}
    with new_hdf5(path) as file:
        for name, blocks in groups.items():
            group, counts[name] = file.create_group(name), 0
            for block in blocks:
                posterior = model.encode(block.images)
                _append(group, "mean", posterior.mean)
                _append(group, "variance", posterior.variance)
                _append(group, "kl", posterior.kl())
                for key, texts in (("names", block.names), ("labels", block.labels)):
                    if texts is not None:
                        _append(group, key, np.array(texts, h5py.string_dtype()))
                counts[name] += len(block.images)
                file.check()
        file["test/numbers"] = numbers
    return counts


def _append(group: h5py.Group, name: str, rows: np.ndarray) -> None:
    if name not in group:
        shape = rows.shape[1:]
        group.create_dataset(name, (0, *shape), rows.dtype, maxshape=(None, *shape))
    values = group[name]
    values.resize(len(values) + len(rows), axis=0)
    values[-len(rows) :] = rows


def _provenance(
    record: dict[str, Any],
    drawn: h5py.Dataset,
    counts: dict[str, int],
    settings: ExportSettings,
) -> dict[str, Any]:
    return {
        **{key: record[key] for key in ("variant", "seed", "dataset", "dataset_checksum")},
        "weights_sha256": record["weights_sha256"],
        "image_shape": record["image_shape"],
        "samples": {key: drawn.file.attrs[key] for key in ("prior", "batch_norm")},
        "images": counts,
        "source_of_images": settings.images,
        "pixels": "uint8; samples are decoder means, rounded from [-1, 1] to bytes",
        "software": software("tensorflow", "keras", "pillow"),
    }
