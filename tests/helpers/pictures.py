"""Finds images in a picture file, pixel by pixel."""

import numpy as np
from PIL import Image


def noise(n, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def decoded(path):
    """A PNG as uint8 (height, width, 3)."""
    return np.asarray(Image.open(path).convert("RGB"))


def enlarged(image, scale):
    """An image as it should appear in a figure: uint8 (scale height, scale width, 3)."""
    colour = np.broadcast_to(image, (*image.shape[:2], 3))
    return np.kron(colour, np.ones((scale, scale, 1), np.uint8))


def places(picture, block):
    """Every position (top, left) at which the picture contains exactly this block."""
    picture, block = (
        pixels @ np.array([1 << 16, 1 << 8, 1], np.float32) for pixels in (picture, block)
    )
    height, width = block.shape
    tops, lefts = np.nonzero(picture[height - 1 :, width - 1 :] == block[-1, -1])
    for y, x in zip(range(0, height, 7), range(0, width, 5), strict=False):
        near = picture[tops + y, lefts + x] == block[y, x]
        tops, lefts = tops[near], lefts[near]
    return [
        (top, left)
        for top, left in zip(tops.tolist(), lefts.tolist(), strict=True)
        if np.array_equal(picture[top : top + height, left : left + width], block)
    ]
