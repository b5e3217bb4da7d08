"""A finished training and what the next stages made of it, for tests of damage and faults."""

import numpy as np
from test_training import TINY, make_store, train

from helpers.scored import score_of
from svae.sampling import examples
from svae.sampling.prior import sample
from svae.scores import feature_reference, kept
from svae.scores.spectrum import Spectrum
from svae.settings.sampling import SamplingSettings


def make_finished(folder):
    """The folder, with data.h5, run/, samples.h5, pictures.h5, a score, and what is fitted to the
    data set."""
    data = make_store(folder / "data.h5")
    train(data, folder / "run", TINY)
    sample(folder / "run", folder / "samples.h5", SamplingSettings(n_samples=20, batch_size=10))
    examples.write(data, folder / "run", folder / "samples.h5", 1, folder / "pictures.h5")
    score_of("objective", folder, folder, record="run/run.json")
    kept.keep(kept.place(folder / "run", "objective"), "recipe", {}, *score_in(folder))
    part = np.arange(16.0).reshape(4, 4)
    Spectrum(part[0], part[1], part, 1.5, 9, "abc").save(folder / "spectrum.npz")
    feature_reference.save(feature_reference.Fitted({"a": 1}, part), folder / "features.npz")
    return folder


def score_in(folder):
    return folder / "objective.json", folder / "objective_per_image.npz"
