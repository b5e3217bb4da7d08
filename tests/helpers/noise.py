"""A store of correlated random images."""

import math

import numpy as np

from helpers import stores


def make_splits(shape=(4, 5, 2), train=60, seed=0):
    """Correlated random images; the first pixel is constant, with another value in each split."""
    rng = np.random.default_rng(seed)
    d = math.prod(shape)
    mixing = rng.standard_normal((d, d)) * np.linspace(0.2, 3, d)[:, None]
    splits = {}
    for place, (name, n) in enumerate({"train": train, "valid": 12, "test": 30}.items()):
        images = np.clip(128 + 10 * rng.standard_normal((n, d)) @ mixing, 0, 255)
        images[:, 0] = 77 + place
        splits[name] = images.round().astype(np.uint8).reshape(n, *shape)
    return splits


def make_store(path, **changes):
    """A store and its checksum; `changes`: other images for some of its splits."""
    splits = make_splits() | changes
    return stores.write(path, splits, {"dataset": "noise", "padding": 0})["checksum"]
