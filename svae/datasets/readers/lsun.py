"""LSUN: photographs of scenes, one category at a time, from zip archives of an LMDB database.

Source: F. Yu et al., "LSUN: Construction of a Large-scale Image Dataset using Deep Learning with
Humans in the Loop", 2015, arXiv 1506.03365; https://github.com/fyu/lsun shows the format: one WebP
file per key.
"""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from svae.datasets.formats import lmdb_file
from svae.datasets.formats.untrusted import damaged
from svae.datasets.formats.zip_file import checked_zip
from svae.datasets.readers import Picture, Raw
from svae.datasets.splits import by_name
from svae.errors import UserError

SPLIT_RULE = (
    "test: the official val images, and 5 % of the official train images; another 5 % of these "
    "valid, 90 % train, by the SHA-256 of an image's key"
)

_WITHOUT_VAL = "by the SHA-256 of an image's key: 90 % train, 5 % valid, 5 % test"
_FRACTIONS = {"train": 0.9, "valid": 0.05, "test": 0.05}
_DATABASE = "data.mdb"
_SPACE_LEFT = 256 << 20  # bytes that stay free on the disk of the scratch folder
_COPY_BYTES = 1 << 20


def read(raw: Raw) -> Iterator[Picture]:
    """Yield every image as the bytes of a WebP file: val first, each archive in key order.

    The databases are unpacked to `raw.scratch`, one at a time.

    Args:
        raw: files `val` and `train`: zip archives with one `data.mdb` each. `val` may be missing:
            the objects of LSUN have no such archive.

    Raises:
        UserError: if a file is not such an archive, is damaged, or unpacks to more than its limit
            or the free disk space.
    """
    # The small file first, so that little time is lost if it is wrong.
    if "val" in raw.files:
        for key, image in _images(raw, "val"):
            yield Picture("test", f"val/{key}", image)
    else:
        raw.findings.split_rule = _WITHOUT_VAL
    for key, image in _images(raw, "train"):
        yield Picture(by_name(key, _FRACTIONS), key, image)


def _images(raw: Raw, role: str) -> Iterator[tuple[str, bytes]]:
    """Yield (key, image) of one archive."""
    path, database = raw.files[role], raw.scratch / _DATABASE
    try:
        _unpack(path, raw.limits[role], database, f"sources.lsun.{role}")
        origin = f"{path}: {_DATABASE}"
        with damaged(origin, "database in LMDB's format"), database.open("rb") as file:
            for key, image in lmdb_file.entries(file.fileno()):
                yield key.decode("ascii", "backslashreplace"), image
    finally:
        database.unlink(missing_ok=True)


def _unpack(path: Path, limit: int, target: Path, config_key: str) -> None:
    with checked_zip(path, limit) as archive:
        found = [
            info
            for info in archive.infolist()
            if PurePosixPath(info.filename).name == _DATABASE and not info.is_dir()
        ]
        if len(found) != 1:
            raise UserError(
                f"{path} contains {len(found)} files named {_DATABASE} instead of one: it is not "
                "an LSUN archive. Delete it and download it again, or give another copy in "
                f"config.yaml under `{config_key}`."
            )
        _check_space(found[0], path, target.parent)
        with archive.open(found[0]) as packed, target.open("xb") as unpacked:
            shutil.copyfileobj(packed, unpacked, _COPY_BYTES)


def _check_space(info: zipfile.ZipInfo, path: Path, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    needed = info.file_size + _SPACE_LEFT
    if free < needed:
        raise UserError(
            f"{path} unpacks to {info.file_size / 1e9:.1f} GB, so that {folder} needs "
            f"{needed / 1e9:.1f} GB of free disk space but has {free / 1e9:.1f} GB. Make room "
            "there, or run the pipeline in a folder on a larger disk; the unpacked file is deleted "
            "at the end."
        )
