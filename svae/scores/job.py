"""One job for many scores of a run, because each process takes seconds to start TensorFlow."""

import contextlib
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svae.errors import UserError
from svae.jobs.devices import on_device
from svae.scores import kept
from svae.scores.measuring import Files, measure
from svae.scores.registry import scores
from svae.scores.score import Score

log = logging.getLogger(__name__)


def measure_all(
    orders: Mapping[str, Mapping[str, Any]],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Path | str],
    device: str,
    threads: int,
) -> None:
    """Write the files of all scores in `orders`: those that are kept, see svae.scores.kept, as they
    are, and those that are not after they were measured.

    orders   score -> what decides how it is measured: its `code`, its `settings`, and `reads`, the
             settings of other sections.
    inputs   `record`, `data`, and the files that the scores need, by their names.
    outputs  NAME and NAME_per_image -> the files of each score.
    device, threads  see svae.jobs.devices.on_device; TensorFlow starts only if it is needed.

    A score that cannot be measured does not keep the others from it; UserError after them.
    """
    errors = []
    with contextlib.ExitStack() as opened:
        files = opened.enter_context(
            Files(inputs["record"], inputs["data"], inputs.get("samples"), inputs.get("spectrum"))
        )

        @functools.cache
        def start() -> None:
            log.info(opened.enter_context(on_device(device, threads)))

        # Each file is read once, whatever the number of scores.
        needed = {name for score in orders for name in _files(scores()[score])}
        given = {name: inputs[name] for name in sorted(needed) if inputs.get(name)}
        known = kept.digests(inputs["record"], files.store.checksum, given)
        for name, order in orders.items():
            score = scores()[name]
            recipe = kept.recipe(order)
            place = kept.place(files.folder, name)
            digests = {
                key: known[key] for key in ("record", "data", *_files(score)) if key in known
            }
            paths = outputs[name], outputs[f"{name}_per_image"]
            if kept.restore(place, recipe, digests, *paths):
                log.info("%s: %s: as it was measured before", files.record["variant"], score.title)
                continue
            if score.tensorflow:
                start()
            reads = {**order["reads"], **{f"file.{file}": inputs[file] for file in score.files}}
            try:
                measure(score, order["settings"], reads, threads, files, *paths)
            except UserError as error:
                errors.append(str(error))
            else:
                kept.keep(place, recipe, digests, *paths)
    if errors:
        raise UserError("\n".join(errors))


def _files(score: Score) -> list[str]:
    """The inputs that one score is measured from, besides the run and the images."""
    return sorted({*score.needs, *score.files, *(["prior"] if "sampling" in score.reads else [])})
