"""The samples and images of benchmarks/parzen.py: smooth fields plus noise."""

from pathlib import Path

import h5py
import numpy as np

CHUNK = 500  # pictures made at once


class First:
    """The first `count` rows of an HDF5 data set."""

    def __init__(self, rows: h5py.Dataset, count: int):
        self.rows = rows
        self.shape, self.dtype = (count, *rows.shape[1:]), rows.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.rows[rows.start : min(rows.stop, len(self.rows), self.shape[0])]


def pictures(rng: np.random.Generator, n: int, side: int, noise: float) -> np.ndarray:
    """Return smooth fields of five scales plus noise: float32 (n, side, side, 3) on [-1, 1]."""
    found = noise * rng.standard_normal((n, side, side, 3), np.float32)
    for cells in (1, 2, 4, 8, 16):
        centres = (np.arange(side) + 0.5) / side * cells - 0.5
        weights = np.maximum(1 - np.abs(centres[:, None] - np.arange(cells)), 0)
        weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        coarse = rng.standard_normal((n, cells, cells, 3), np.float32) / (1.5 + 0.3 * cells)
        found += np.einsum("yi,nijc,xj->nyxc", weights, coarse, weights, optimize=True)
    return np.clip(found, -1, 1, out=found)


def make_file(path: Path, samples: int, valid: int, test: int, side: int) -> None:
    """Write samples as float32, less noisy than images, like those of a VAE; images as bytes."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, count, noise in (
            ("valid", valid, 0.1),
            ("test", test, 0.1),
            ("samples", samples, 0.02),
        ):
            kind = np.float32 if name == "samples" else np.uint8
            rows = file.create_dataset(name, (count, side, side, 3), kind)
            for start in range(0, count, CHUNK):
                block = pictures(rng, min(CHUNK, count - start), side, noise)
                if kind == np.uint8:
                    block = np.round((block + 1) * 127.5)
                rows[start : start + len(block)] = block
