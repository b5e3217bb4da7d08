"""The loop over epochs and steps; it can be stopped at any step and resumes from a checkpoint."""

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from svae.datasets.feed import Feed
from svae.datasets.store import Store
from svae.errors import Stopped, UserError
from svae.settings.services import Services
from svae.training.checkpoints import State
from svae.training.diagnosis import LEAST_EPOCHS, warnings_of
from svae.training.history import best_epoch
from svae.training.run_folder import RunFolder
from svae.training.spikes import LOWER, MOST, described, spike_of
from svae.training.step import TrainingStep
from svae.training.stopping import StopRequest
from svae.training.terms import Evaluator

log = logging.getLogger(__name__)

REMEDY = (
    "Lower training.learning_rate, or set training.gradient_clip_norm or "
    "training.learning_rate_warmup_epochs"
)


class Spike(Exception):
    """Requests a rollback. `facts`: as in run.json; `error`: what ends the run if none is left."""

    def __init__(self, facts: dict[str, Any], error: UserError):
        super().__init__(str(error))
        self.facts, self.error = facts, error


def prepared(feed: Feed, epochs: range, first: int = 0) -> Iterator[tf.Tensor]:
    """Yield the batches of these epochs; a thread prepares the next two. See Feed.batches.

    tf.data does the same, but the end of its iterator may wait for most of a minute.
    """
    batches = feed.batches(epochs, first)
    with ThreadPoolExecutor(1) as executor:
        ahead = deque(executor.submit(next, batches, None) for _ in range(2))
        while (batch := ahead.popleft().result()) is not None:
            ahead.append(executor.submit(next, batches, None))
            yield tf.convert_to_tensor(batch)


class Loop:
    """Takes the remaining steps of a training; updates and saves its `state`.

    After every epoch: validation terms, a history line, the callbacks, best weights, a checkpoint.
    """

    def __init__(
        self,
        run: RunFolder,
        store: Store,
        feed: Feed,
        take_step: TrainingStep,
        evaluator: Evaluator,
        state: State,
        services: Services,
        request: StopRequest,
        callbacks: Sequence[keras.callbacks.Callback],
    ):
        self.run_folder, self.feed, self.state, self.request = run, feed, state, request
        self.take_step, self.evaluator, self.valid = take_step, evaluator, store.split("valid")
        self.model = take_step.model
        self.settings = self.model.settings
        self.warned: set[str] = set()
        self.checkpoint_seconds = 60 * services.checkpoints.minutes
        self.callbacks = keras.callbacks.CallbackList(
            list(callbacks), model=self.model, steps=feed.steps, epochs=self.settings.epochs
        )

    def run(self) -> None:
        """Train to the end.

        Stopped, after a checkpoint, if a signal asks for it. UserError if a loss is not finite or
        an epoch is a spike, and the settings allow no rollback, or no further one.
        """
        # Nowhere here is Python's control flow on tensors, and autograph takes half of the time of
        # tracing to look for it.
        step = tf.function(self.take_step, jit_compile=self.settings.jit_compile, autograph=False)
        self.mark = self.saved = time.monotonic()
        self.request.at_once = False  # from here on there is something to save
        self.callbacks.on_train_begin()
        try:
            if self.settings.on_spike == "rollback" and self.state.step == 0:
                self._save()
            while not self.is_done():
                try:
                    self._epochs(step)
                except Spike as spike:
                    self._roll_back(spike)
        except Stopped:
            log.info("step %d is saved in %s", self.state.step, self._save())
            raise
        self.callbacks.on_train_end()
        self.request.at_once = True
        self.request.check()

    def _epochs(self, step: Any) -> None:
        """Train the remaining epochs. Spike if one of them is to be rolled back."""
        epochs = range(len(self.state.records), self.settings.epochs)
        first = self.state.step - epochs.start * self.feed.steps
        batches = prepared(self.feed, epochs, first)
        for epoch in epochs:
            if self.is_done():
                break
            self.callbacks.on_epoch_begin(epoch)
            self._steps(step, batches, epoch)
            self._end_epoch(epoch)

    def _steps(self, step: Any, batches: Iterator[tf.Tensor], epoch: int) -> None:
        state, first = self.state, epoch * self.feed.steps
        for number in range(state.step, first + self.feed.steps):
            terms = step(next(batches), tf.constant(number, tf.int64))
            terms = {name: float(value) for name, value in terms.items()}
            where = f"step {number + 1} (epoch {epoch + 1})"
            if not all(map(math.isfinite, terms.values())):
                lost = self._lost(where, "loss is", terms)
                facts = {"epoch": epoch + 1, "step": number + 1, "split": None}
                raise lost if self.settings.on_spike == "stop" else Spike(facts, lost)
            if self.take_step.overflows():
                raise self._lost(where, "gradients are", terms)
            now = time.monotonic()
            state.step = number + 1
            if state.worst_step <= first or terms["loss"] > state.worst_loss:
                state.worst_step, state.worst_loss = number + 1, terms["loss"]
            state.sums = {name: total + terms[name] for name, total in state.sums.items()}
            state.seconds += now - self.mark
            self.mark = now
            if now - self.saved > self.checkpoint_seconds:
                self._save()
            self.callbacks.on_train_batch_end(number - first)
            self.request.check()

    def _end_epoch(self, epoch: int) -> None:
        model, state = self.model, self.state
        means = {name: total / self.feed.steps for name, total in state.sums.items()}
        if self.settings.decoder_variance == "optimal":
            # From the training batches, not from the images that are evaluated with it.
            model.log_variance.assign(math.log(means["sse"] / model.dimension))
        terms = self.evaluator(self.valid)
        record = self._record(epoch, means, terms)
        self._judge(record)
        # From here to the checkpoint, requests to stop are not checked.
        state.records.append(record)
        state.sums, state.seconds = dict.fromkeys(state.sums, 0.0), 0.0
        self.run_folder.write_history(state.records)
        self.callbacks.on_epoch_end(epoch)
        self._warn()
        if best_epoch(state.records, model.dimension) == epoch + 1:
            state.best_sha256 = self.run_folder.save_best(model, epoch + 1)
        self._save()
        self.request.check()

    def _record(self, epoch: int, means: dict[str, float], terms: dict[str, Any]) -> dict[str, Any]:
        model, state = self.model, self.state
        terms = {**terms, **self.evaluator.objective(terms)}
        if not all(math.isfinite(x) for x in terms.values() if isinstance(x, float)):
            shown = {name: terms[f"{name}_per_image"] for name in ("sse", "kl_nats")}
            lost = self._lost(f"validation after epoch {epoch + 1}", "loss is", shown)
            facts = {"epoch": epoch + 1, "step": state.step, "split": None}
            raise lost if self.settings.on_spike == "stop" else Spike(facts, lost)
        return {
            "epoch": epoch + 1,
            "step": state.step,
            # As minimised, warm-up and beta included: nats under elbo, else squared pixel units.
            "train_loss": means["loss"],
            "train_sse_per_image": means["sse"],
            "train_kl_nats_per_image": means["kl"],
            "train_saturation_penalty": means["penalty"],
            **{f"valid_{name}": value for name, value in terms.items()},
            **model.kl_weights(),
            # Of the epoch's last step.
            "kl_warmup_factor": float(self.take_step.kl_factor(state.step - 1)),
            "learning_rate": float(self.take_step.learning_rate(state.step - 1)),
            "seconds": state.seconds,
            "images_per_second": self.feed.steps * self.settings.batch_size / state.seconds,
        }

    def _judge(self, record: dict[str, Any]) -> None:
        """Raise Spike, or UserError under `on_spike: stop`, if the epoch of `record` is a spike."""
        state, rule = self.state, self.settings.on_spike
        found = spike_of(state.records, record)
        if found is None:
            return
        keys = ("kl_nats_median", "kl_nats_largest", "kl_largest_image", "kl_largest_map")
        found |= {key: record[f"valid_{key}"] for key in keys}
        found |= {"epoch": record["epoch"], "step": state.worst_step}
        found["largest_loss"] = state.worst_loss
        error = UserError(
            f"spike in {described(found)}; {self.run_folder.checkpoints.way_back()}. {REMEDY}"
        )
        if rule == "stop":
            raise error
        if rule == "rollback":
            raise Spike(found, error)
        log.warning(
            "warning: spike in %s; the training continues (on_spike: ignore)", described(found)
        )
        state.spikes.append({**found, "rolled_back": False})

    def _roll_back(self, spike: "Spike") -> None:
        """Return to the end of the previous epoch, with a lower learning rate.

        Raise the spike's error if there were too many, or if there is no checkpoint to return to.
        """
        state, take_step = self.state, self.take_step
        checkpoints = self.run_folder.checkpoints
        rolled_back = sum(spike["rolled_back"] for spike in state.spikes)
        if self.settings.on_spike == "ignore" or rolled_back == MOST:
            raise spike.error
        factor = float(take_step.rate_factor) * LOWER
        checkpoints.drop_after(len(state.records) * self.feed.steps)
        restored = checkpoints.restore(take_step.variables)
        if restored is None:
            raise spike.error
        log.warning(
            "warning: spike in %s; returning to step %d, with %g times the learning rate",
            described(spike.facts),
            restored.step,
            factor,
        )
        take_step.rate_factor.assign(factor)
        # The lists stay the same objects: callbacks hold them.
        del state.records[len(restored.records) :]
        state.step, state.sums, state.seconds = restored.step, restored.sums, restored.seconds
        state.best_sha256 = restored.best_sha256
        state.worst_step, state.worst_loss = restored.worst_step, restored.worst_loss
        state.spikes.append({**spike.facts, "rolled_back": True, "rate_factor": factor})
        self._save()

    def is_done(self) -> bool:
        """Return whether no step is left to take."""
        return len(self.state.records) >= self.settings.epochs or self._has_converged()

    def _save(self) -> Path:
        epoch_start = len(self.state.records) * self.feed.steps
        path = self.run_folder.checkpoints.save(self.state, self.take_step.variables, epoch_start)
        self.mark = self.saved = time.monotonic()
        return path

    def _warn(self) -> None:
        if len(self.state.records) < LEAST_EPOCHS:  # it may recover
            return
        for warning in warnings_of(self.state.records, self.settings, self.model.dimension):
            if warning not in self.warned:
                log.warning("warning: %s", warning)
                self.warned.add(warning)

    def _has_converged(self) -> bool:
        records, patience = self.state.records, self.settings.early_stopping_patience
        return (
            patience is not None
            and len(records) - best_epoch(records, self.model.dimension) >= patience
        )

    def _lost(self, where: str, what: str, terms: dict[str, float]) -> UserError:
        shown = ", ".join(f"{name} {value:g}" for name, value in terms.items())
        remedy = "" if self.settings.precision == "float32" else ", or training.precision float32"
        return UserError(
            f"{where}: the {what} not finite ({shown}); "
            f"{self.run_folder.checkpoints.way_back()}. {REMEDY}{remedy}"
        )
