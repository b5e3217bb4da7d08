"""The user's own images: files in a folder, a zip or a tar archive."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from svae.datasets.catalogue import IMAGE_SUFFIXES
from svae.datasets.formats.archives import members, names
from svae.datasets.formats.decoding import CONVERT_HEIC, HEIC_SUFFIXES
from svae.datasets.readers import Picture, Raw
from svae.datasets.splits import by_name
from svae.datasets.store import unread_in_words
from svae.errors import UserError
from svae.jobs.folders import suffix_of

log = logging.getLogger(__name__)

_USUAL = re.compile(r"\.[a-z][a-z0-9]{0,7}")  # suffixes that tell a format
_FRACTIONS = {"train": 0.8, "valid": 0.1, "test": 0.1}
# Names of folders, in lower case, that say which split their images belong to.
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}

SPLIT_RULE = (
    "by the SHA-256 of the file name with its folders inside the folder or archive: 80 % train, "
    "10 % valid, 10 % test; images that are added later move none"
)


def read(raw: Raw) -> Iterator[Picture]:
    """Yield every image as the bytes of its file, sorted by name; from a tar in archive order.

    If all images are in folders named train, val and test, these are the splits: see
    `_level_of_splits`. Its label is the folder that contains it, as in cats/1.jpg, leaving out
    folders of splits; "" for one in no folder.

    Names are paths inside the folder or archive. A top-level folder in an archive is part of the
    names, and thus affects the split: the folder `faces` and an archive of `faces/...` are split
    differently.

    Args:
        raw: `archive`, a folder, a zip or a tar archive. Files with other suffixes are counted in
            `findings.unread`, with one warning. The option split_folders "ignore": splits by name,
            whatever the folders are called.

    Raises:
        UserError: if there is no such image, if only some of them are in folders of splits, or if
            the archive is damaged or unsafe.
    """
    archive, limit = raw.files["archive"], raw.limits["archive"]
    unread = raw.findings.unread
    # By which folders are named like a split: how many images, and the name of the first.
    counts: Counter[tuple[str | None, ...]] = Counter()
    examples: dict[tuple[str | None, ...], str] = {}

    for name in names(archive, _is_image, limit):
        if _is_image(name):
            splits = tuple(_SPLITS.get(part.lower()) for part in PurePosixPath(name).parts[:-1])
            counts[splits] += 1
            examples.setdefault(splits, name)
        else:
            suffix = suffix_of(name)
            unread[suffix if _USUAL.fullmatch(suffix) else ""] += 1
    if not counts:
        others = f", only {_in_words(unread)}" if unread else ""
        raise UserError(
            f"{archive} contains no image{others}: give a folder, a zip or a tar "
            f"archive with files that end in {', '.join(IMAGE_SUFFIXES)} in config.yaml under "
            "`sources.images.archive`."
        )
    if unread:
        log.warning("%s: files of formats that are not read: %s", archive, _in_words(unread))
    level = None
    if raw.options.get("split_folders", "use") == "use":
        level = _level_of_splits(counts, examples, archive)
    if level is None:
        fractions = _FRACTIONS
    else:
        missing = [split for split in _FRACTIONS if all(key[level] != split for key in counts)]
        fractions = {"train": 1 - 0.1 * len(missing), **dict.fromkeys(missing, 0.1)}
        raw.findings.split_rule = "as its folders train, val and test say" + "".join(
            f"; {split}: 10 % of those in train, by the SHA-256 of the file name"
            for split in missing
        )
        log.info("%s: splits are taken from its folders train, val and test", archive)

    for name, content in members(archive, _is_image, limit):
        parts = PurePosixPath(name).parts
        split = "train" if level is None else _SPLITS[parts[level].lower()]
        if split == "train":
            split = by_name(name, fractions)
        outside = parts if level is None else (*parts[:level], *parts[level + 1 :])
        yield Picture(split, name, content, label_of("/".join(outside)))


def _is_image(name: str) -> bool:
    return suffix_of(name) in IMAGE_SUFFIXES


def _level_of_splits(
    counts: Counter[tuple[str | None, ...]],
    examples: dict[tuple[str | None, ...], str],
    archive: Path,
) -> int | None:
    """The level at which all folders are named like splits, as 1 in faces/train/a.jpg; or None.

    A folder `train` only, without another split, may be a class: it says nothing.
    UserError if some images are in no such folder, or if none are in train.
    """
    for level in range(max(map(len, counts))):
        found = {key: key[level] if level < len(key) else None for key in counts}
        splits = {split for split in found.values() if split}
        if len(splits) < 2:
            continue
        way_out = (
            "move them, or set `split_folders: ignore` under `conversion` in config.yaml, which "
            "splits all images by their names."
        )
        elsewhere = [key for key, split in found.items() if not split]
        if elsewhere:
            raise UserError(
                f"{archive}: images are in folders named train, val or test, but "
                f"{sum(counts[key] for key in elsewhere)} are not, such as "
                f"{examples[elsewhere[0]]}: {way_out}"
            )
        if "train" not in splits:
            raise UserError(
                f"{archive}: images are in folders named val and test, but none in one named "
                f"train: {way_out}"
            )
        return level
    return None


def _in_words(unread: Counter[str]) -> str:
    """Files that are not read, by suffix, and how HEIC files can be converted."""
    heic = f" ({CONVERT_HEIC})" if unread.keys() & set(HEIC_SUFFIXES) else ""
    return unread_in_words(unread) + heic


def label_of(name: str) -> str:
    """The folder that contains a file, such as `cats` of pets/cats/1.jpg; "" if there is none."""
    return PurePosixPath(name).parent.name
