"""Resizing of images to the side at which a network sees them, with its edges kept smooth.

Bicubic interpolation (Keys 1981, a = -1/2). Where images become smaller, the kernel is widened by
the same factor, so that no detail is aliased (Parmar, Zhang, Zhu 2022, "On aliased resizing and
surprising subtleties in GAN evaluation"); at the edges, its weights within the image are scaled to
the sum 1. These are the conventions of Pillow, but nothing is rounded or clipped.
"""

import numpy as np

SUPPORT = 2.0  # of the kernel, in pixels


def matrix(old: int, new: int) -> np.ndarray:
    """(new, old), float32: what resizing does to the pixels of one row or column."""
    if old == new:
        return np.eye(old, dtype=np.float32)
    scale = old / new
    stretch = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    distances = (np.arange(old) + 0.5 - centres[:, None]) / stretch
    weights = _cubic(np.abs(distances))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _cubic(t: np.ndarray) -> np.ndarray:
    a = -0.5
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = (((t - 5) * t + 8) * t - 4) * a
    return np.where(t < 1, near, np.where(t < SUPPORT, far, 0.0))
