"""Measures a score of a run, from files to files."""

import json

import numpy as np

from svae.scores.measuring import measure
from svae.scores.registry import scores


def score_of(name, folder, target, reads=None, data="data.h5", record="run.json", **settings):
    """Measure the run whose files lie in `folder`, the settings being the default ones but for
    `settings`; the JSON file and the values of single images, which go to the folder `target`."""
    paths = target / f"{name}.json", target / f"{name}_per_image.npz"
    measure(
        scores()[name],
        settings=settings,
        reads=reads or {},
        threads=1,
        data=folder / data,
        record=folder / record,
        target=paths[0],
        per_image=paths[1],
        samples=folder / "samples.h5",
        spectrum=folder / "spectrum.npz",
    )
    return json.loads(paths[0].read_text()), np.load(paths[1])
