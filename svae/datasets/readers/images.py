"""The user's own images: JPEG, PNG and WebP files in a folder, a zip or a tar archive."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from svae.datasets.formats.archives import members
from svae.datasets.readers import Picture, Raw
from svae.datasets.splits import by_name
from svae.errors import UserError

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

_FRACTIONS = {"train": 0.8, "valid": 0.1, "test": 0.1}

SPLIT_RULE = (
    "by the SHA-256 of the file name with its folders inside the folder or archive: 80 % train, "
    "10 % valid, 10 % test; images that are added later move none"
)


def read(raw: Raw) -> Iterator[Picture]:
    """Yield every image as the bytes of its file, sorted by name; from a tar in archive order.

    Its label is the folder that contains it, as in cats/1.jpg; "" for one in no folder.

    Names are paths inside the folder or archive. A top-level folder in an archive is part of the
    names, and thus affects the split: the folder `faces` and an archive of `faces/...` are split
    differently.

    Args:
        raw: `archive`, a folder, a zip or a tar archive. Files with other suffixes are skipped,
            with one warning that counts them.

    Raises:
        UserError: if there is no such image, or if the archive is damaged or unsafe.
    """
    archive = raw.files["archive"]
    others: Counter[str] = Counter()

    def wanted(name: str) -> bool:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix not in SUFFIXES:
            others[suffix] += 1
        return suffix in SUFFIXES

    found = False
    for name, content in members(archive, wanted, raw.limits["archive"]):
        found = True
        yield Picture(by_name(name, _FRACTIONS), name, content, label_of(name))
    if not found:
        raise UserError(
            f"{archive} contains no image: give a folder, a zip or a tar archive with files that "
            f"end in {', '.join(SUFFIXES)} in config.yaml under `sources.images.archive`."
        )
    if others:
        counts = ", ".join(
            f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(others.items())
        )
        log.warning("%s: skipped %s; only %s are read", archive, counts, ", ".join(SUFFIXES))


def label_of(name: str) -> str:
    """The folder that contains a file, such as `cats` of pets/cats/1.jpg; "" if there is none."""
    return PurePosixPath(name).parent.name
