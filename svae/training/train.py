"""Training of one variant, from a store to a finished run folder."""

import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from svae.datasets.feed import Feed
from svae.datasets.store import Store
from svae.errors import UserError
from svae.jobs.disk import disk_explained, only_writer
from svae.jobs.files import file_hash
from svae.jobs.provenance import software
from svae.jobs.set_aside import SetAside
from svae.model import batch_norm
from svae.model.vae import SpatialVAE
from svae.pixels import HALF_RANGE
from svae.scores.spectrum import Spectrum, expectation, load
from svae.settings.services import Services
from svae.settings.training import TrainingSettings
from svae.training.checkpoints import State
from svae.training.diagnosis import warnings_of_run
from svae.training.history import best_epoch
from svae.training.initialization import start_outputs
from svae.training.loop import Loop
from svae.training.progress import Progress
from svae.training.run_folder import RunFolder, identity, save_weights
from svae.training.step import TrainingStep
from svae.training.stopping import StopRequest, stop_request
from svae.training.tensorboard import PICTURE_IMAGES, TensorBoard
from svae.training.terms import Evaluator

log = logging.getLogger(__name__)

_BLOCK = 256  # images


def train(
    store_path: Path | str,
    folder: Path | str,
    settings: TrainingSettings,
    services: Services,
    *,
    variant: str,
    seed: int,
    code: str,
    device: str,
    aside_folder: Path | str,
    spectrum: Path | None = None,
) -> None:
    """Train a variant and write `folder`/run.json, as the last file of the run folder.

    `code`: fingerprint of this stage's modules; `device`: the log line that names the device; both
    are recorded, the device only if it took a step. `aside_folder`: where other runs of this folder
    are set aside; `spectrum`: that of the training images (svae.scores.spectrum), to compare the
    run with a linear VAE.

    The result is a function of the store's pixels, the settings, the seed and the code; its last
    digits also of the device and the number of threads. A different run in the folder is set aside.
    If the folder or a folder that was set aside contains this run, it is used: an earlier part of
    it is resumed, and a finished run is neither trained nor evaluated again. The store stays open
    during the training; its images take at most `settings.image_memory_mb` of memory.

    SIGTERM, SIGINT and SIGHUP save a checkpoint and raise `Stopped`. UserError: there are fewer
    training images than a batch, the loss is no longer finite, the disk is full, another process
    trains in the folder, or the spectrum belongs to other images.
    """
    run, aside = RunFolder(folder), SetAside(folder, aside_folder)
    with (
        stop_request() as request,
        only_writer(run.path),
        disk_explained(run.record),
        Store(store_path) as store,
    ):
        count = store.count("train")
        if count < settings.batch_size:
            raise UserError(
                f"training.batch_size is {settings.batch_size}, but {store_path} has {count} "
                f"training images; lower it"
            )
        # Read before the training, so that a broken file does not waste a training.
        fitted = None if spectrum is None else load(spectrum)
        if fitted is not None and fitted.dataset_checksum != store.checksum:
            raise UserError(
                f"{spectrum} belongs to other images than {store_path}; delete it and run snakemake"
            )
        _train(
            store,
            run,
            aside,
            settings,
            services,
            variant,
            seed,
            code,
            device,
            fitted,
            None if spectrum is None else file_hash(spectrum),
            request,
        )


def _train(
    store: Store,
    run: RunFolder,
    aside: SetAside,
    settings: TrainingSettings,
    services: Services,
    variant: str,
    seed: int,
    code: str,
    device: str,
    spectrum: Spectrum | None,
    spectrum_hash: str | None,
    request: StopRequest,
) -> None:
    own = identity(settings, seed, store.checksum, code)
    resumes = run.prepare(own, aside)
    known = {
        "variant": variant,
        "dataset": store.attributes["dataset"],
        "padding": store.padding,
        "spectrum_sha256": spectrum_hash,
    }
    if resumes and run.finished_before({**known, "settings": asdict(settings)}):
        log.info(
            "%s: this run is already finished; nothing to train. To train it from nothing, delete "
            "%s and run snakemake again",
            variant,
            run.path,
        )
        return
    log.info("%s: %s", variant, device)
    images = store.split("train")
    feed = Feed(images, settings.batch_size, seed, settings.image_memory_mb * 10**6)
    model = SpatialVAE(store.shape, store.padding, settings, seed)
    # Only a learned variance needs this pass over the images.
    learned = settings.decoder_variance == "learned"
    take_step = TrainingStep(model, feed.steps, _data_variance(images) if learned else math.nan)
    state = None
    if resumes:

        def lacks(state: State) -> str | None:
            return run.lacks_best(state, model.dimension) if settings.takes_best else None

        state = run.checkpoints.restore(take_step.variables, lacks)
    if state is None:
        state = State()
        if settings.initialization == "data":
            start_outputs(model, images)
    else:
        done = len(state.records)
        begun = state.step - done * feed.steps
        where = f"step {begun} of epoch {done + 1}" if begun else f"epoch {done}"
        log.info("%s: resuming after %s", variant, where)
    state.identity = own
    run.drop_best_after(len(state.records))
    run.write_history(state.records)

    evaluator = Evaluator(model, check=request.check)
    shown = store.images("valid", PICTURE_IMAGES)
    callbacks = [
        Progress(variant, settings.epochs, feed.steps, settings.batch_size, state.records),
        TensorBoard(run.tensorboard, state.records, services.tensorboard.picture_epochs, shown),
    ]
    loop = Loop(run, store, feed, take_step, evaluator, state, services, request, callbacks)
    if device not in state.devices and not loop.is_done():
        state.devices.append(device)
    loop.run()

    records = state.records
    best = best_epoch(records, model.dimension)
    if settings.takes_best:
        if reason := run.lacks_best(state, model.dimension):
            raise UserError(f"{reason}; run snakemake again, which trains what is lost")
        model.load_weights(run.best_weights(best))
    # The record describes the model as `svae.model.saved` loads it.
    model = model.in_float32()
    final = _finish(model, Evaluator(model, check=request.check), store, feed)
    save_weights(model, run.weights)
    record = {
        "variant": variant,
        "seed": seed,
        "dataset": store.attributes["dataset"],
        "dataset_checksum": store.checksum,
        "image_shape": list(store.shape),
        "padding": store.padding,
        "dimension": model.dimension,
        "settings": asdict(settings),
        "objective": settings.objective,
        **model.kl_weights(),
        "parameters": sum(math.prod(weight.shape) for weight in model.trainable_variables),
        "epochs": settings.epochs,
        "epochs_trained": len(records),
        "early_stopped": len(records) < settings.epochs,
        "best_epoch": best,
        "weights_of_epoch": best if settings.takes_best else len(records),
        "spikes": state.spikes,
        "steps": state.step,
        "warnings": [],
        "training_seconds": sum(line["seconds"] for line in records),
        "device": ", then ".join(state.devices),
        "threads": settings.threads,
        "batch_norm": "moving statistics, re-estimated over the training images after training",
        **final,
        "linear_vae": None,
        "weights_sha256": file_hash(run.weights),
        "history_sha256": file_hash(run.history),
        "spectrum_sha256": spectrum_hash,
        "code": code,
        "software": software("tensorflow", "keras", "numpy", "h5py"),
    }
    if spectrum is not None:
        entries = final["test"]["latent_entries"]
        record["linear_vae"] = expectation(spectrum, model.equivalent_weight(), entries)
    record["warnings"] = warnings_of_run(record, records, settings)
    for warning in record["warnings"]:
        if warning not in loop.warned:
            log.warning("warning: %s", warning)
    run.finish(record)


def _data_variance(images: h5py.Dataset) -> float:
    """Variance of all pixels on [-1, 1], from integer sums, which do not depend on the blocks."""
    total = squares = 0
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        total += int(block.sum(dtype=np.int64))
        squares += int(np.square(block, dtype=np.uint16).sum(dtype=np.int64))
    count = math.prod(images.shape)
    return (squares * count - total**2) / (count * HALF_RANGE) ** 2


def _finish(model: SpatialVAE, evaluator: Evaluator, store: Store, feed: Feed) -> dict[str, Any]:
    """Re-estimate the batch-norm statistics, then compute the terms of every split."""
    # Shuffled, because a file may be sorted by class, and in an order that no epoch used.
    order = [model.settings.epochs]
    batch_norm.reestimate(model, feed.batches(order), evaluator.check)
    terms = {"train": evaluator(store.split("train"))}
    if model.settings.decoder_variance == "optimal":
        model.log_variance.assign(math.log(terms["train"]["mse_per_pixel"]))
    terms |= {split: evaluator(store.split(split)) for split in ("valid", "test")}
    samples = evaluator.saturated_samples()
    with batch_norm.statistics_of_means(model, feed.batches(order), evaluator.check):
        for split in terms:
            sse = evaluator.sse_of_means(store.split(split))
            terms[split]["sse_per_image_posterior_mean"] = sse
    found = {split: {**value, **evaluator.objective(value)} for split, value in terms.items()}
    return {**found, "samples": samples}
