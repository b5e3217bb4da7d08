"""Fixed rules that split a data set published without a split, or take a part of one."""

import hashlib
import heapq
import pickle
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from svae.datasets.readers import Picture

SEED = 170506821


def shuffled(count: int) -> np.ndarray:
    """Return a fixed permutation of range(count), shape (count,), independent of the user's seeds.

    It sorts raw PCG64 output, the only random stream that NumPy guarantees never to change, so that
    the splits contain the same images in every version.
    """
    return np.argsort(np.random.PCG64(SEED).random_raw(count), kind="stable")


def by_name(name: str, fractions: Mapping[str, float]) -> str:
    """Return the split of an image, which depends only on its name.

    Args:
        name: the first 64 bits of its SHA-256 serve as a uniform random number. The name is
            normalised to NFC first, because file systems encode accented letters in two ways.
        fractions: share of each split, in a fixed order; they add up to 1.
    """
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).digest()
    uniform = int.from_bytes(digest[:8], "big") / 2**64
    *splits, last = fractions
    bound = 0.0
    for split in splits:
        bound += fractions[split]
        if uniform < bound:
            return split
    return last


def chosen_by_hash(pictures: Iterable[Picture], most: int, scratch: Path) -> Iterator[Picture]:
    """Yield the `most` pictures with the smallest hashes of split and name, in their order.

    The same pictures are chosen in every run, and a smaller part is contained in a larger one. All
    are read once. Those with the smallest hashes so far, about most (1 + ln(n / most)) of n, are
    kept in a file in the folder `scratch`.
    """
    kept: list[tuple[int, int]] = []  # a heap of (minus the hash, place in the file)
    with (scratch / "chosen").open("w+b") as file:
        for picture in pictures:
            # With a prefix, as the hash of the name itself may decide the split.
            text = f"max_images {picture.split}/{picture.name}"
            digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()
            entry = -int.from_bytes(digest[:16], "big"), file.tell()
            if len(kept) < most:
                heapq.heappush(kept, entry)
            elif entry > kept[0]:
                heapq.heapreplace(kept, entry)
            else:
                continue
            pickle.dump(picture, file, protocol=5)
        for place in sorted(place for _, place in kept):
            file.seek(place)
            yield pickle.load(file)
