"""Measures a score of a run, from files to files."""

import json

import numpy as np

from svae.scores.measuring import Files, measure
from svae.scores.registry import scores


def score_of(name, folder, target, reads=None, data="data.h5", record="run.json", **settings):
    """Measure the run whose files lie in `folder`, the settings being the default ones but for
    `settings`; the JSON file and the values of single images, which go to the folder `target`."""
    paths = target / f"{name}.json", target / f"{name}_per_image.npz"
    record, store = folder / record, folder / data
    others = {"samples": folder / "samples.h5", "spectrum": folder / "spectrum.npz"}
    with Files(record, store, **others) as files:
        measure(scores()[name], settings, reads or {}, 1, files, *paths)
    return json.loads(paths[0].read_text()), np.load(paths[1])
