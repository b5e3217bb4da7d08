"""Small stores of images in memory."""

from svae.datasets import SPLITS
from svae.datasets.store_writer import Writer


def write(path, splits, attributes):
    """Write a store: `splits` has an array (n, height, width, channel) for each split."""
    with Writer(path) as writer:
        for split in SPLITS:
            writer.append(split, splits[split])
        return writer.finish(attributes)
