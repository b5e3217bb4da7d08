"""CelebA: aligned and cropped faces, from the zip archive without unpacking it, or a folder.

Source: Z. Liu, P. Luo, X. Wang, X. Tang, "Deep Learning Face Attributes in the Wild", 2015;
https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile, ZipInfo

from svae.datasets.formats.archives import file_content
from svae.datasets.formats.untrusted import damaged
from svae.datasets.formats.zip_file import checked_zip, zip_content
from svae.datasets.readers import BrokenImage, Picture, Raw
from svae.errors import UserError
from svae.jobs.files import file_hash
from svae.jobs.folders import files_in

SPLIT_RULE = (
    "split official: as list_eval_partition.txt says; split paper, as the published code: of the "
    "images in the order of their numbers the first 160,000 train, the first half of the others "
    "test, the second half valid"
)

_PAPER_TRAINING = 160_000
_MEMBER_LIMIT = 4 << 20  # bytes; the official JPEGs have about 7,000
_IMAGE = re.compile(r"(?:.*/)?([0-9]{6})\.jpg")
_LINE = re.compile(r"([0-9]{6})\.jpg(?:\s+|\s*,\s*)([012])\s*")
_HEAD = "image_id,partition"  # the first line of Kaggle's list_eval_partition.csv
_SPLITS = ("train", "valid", "test")  # as the partition file numbers them


def read(raw: Raw) -> Iterator[Picture]:
    """Yield every face as the bytes of its JPEG file, in the order of the file numbers.

    Args:
        raw: `archive`, img_align_celeba.zip with its images in folders of any name, or the folder
            that it unpacks to. With the option split "official" also `partition`,
            list_eval_partition.txt or Kaggle's list_eval_partition.csv; "paper" needs none.

    Raises:
        UserError: if a file is not the expected one, is damaged, or the partition does not match
            the images.
    """
    archive = raw.files["archive"]
    with _faces(archive, raw.limits["archive"]) as faces:
        if raw.options.get("split", "official") == "paper":
            splits = dict(zip(faces, _paper_splits(len(faces), archive), strict=True))
        else:
            splits = _partition(raw.files["partition"], raw.limits["partition"])
            _check_complete(faces, splits, archive, raw.files["partition"])
        for number, face in faces.items():
            yield Picture(splits[number], _file_name(number), face.read())


class _Face(NamedTuple):
    read: Callable[[], bytes | BrokenImage]
    identity: Callable[[], Hashable]  # of its content


@contextmanager
def _faces(archive: Path, limit: int) -> Iterator[dict[int, _Face]]:
    """The files NNNNNN.jpg of a zip archive or a folder, by and in the order of their number."""
    if archive.is_dir():
        yield _numbered(
            archive,
            ((name, _face_in_folder(Path(entry.path))) for name, entry in files_in(archive)),
        )
    else:
        with checked_zip(archive, limit) as opened:
            yield _numbered(
                archive, ((info.filename, _face_in_zip(opened, info)) for info in opened.infolist())
            )


def _face_in_folder(path: Path) -> _Face:
    return _Face(partial(file_content, path, _MEMBER_LIMIT), partial(file_hash, path))


def _face_in_zip(opened: ZipFile, info: ZipInfo) -> _Face:
    return _Face(
        partial(zip_content, opened, info, _MEMBER_LIMIT), lambda: (info.CRC, info.file_size)
    )


def _numbered(archive: Path, files: Iterable[tuple[str, _Face]]) -> dict[int, _Face]:
    """Those named NNNNNN.jpg. The same file in two folders, as some copies have it, counts once."""
    faces: dict[int, _Face] = {}
    for name, face in files:
        if match := _IMAGE.fullmatch(name):
            number = int(match[1])
            first = faces.setdefault(number, face)
            if first is not face and first.identity() != face.identity():
                raise UserError(
                    f"{archive} contains {_file_name(number)} twice, in two folders and with other "
                    "content: give the official img_align_celeba.zip in config.yaml under "
                    "`sources.celeba.archive`."
                )
    if not faces:
        raise UserError(
            f"{archive} contains no image with a name such as 000001.jpg: give the official "
            "img_align_celeba.zip, or the folder that it unpacks to, in config.yaml under "
            "`sources.celeba.archive`."
        )
    return dict(sorted(faces.items()))


def _paper_splits(count: int, archive: Path) -> list[str]:
    """The split of each of `count` images; published scoring uses those right after training."""
    others = count - _PAPER_TRAINING
    if others < 2:
        raise UserError(
            f"{archive} contains {count} images, but `split: paper` trains on the first "
            f"{_PAPER_TRAINING} and needs others to score on: give the complete archive, or set "
            "`split: official` in config.yaml."
        )
    valid = others // 2
    return ["train"] * _PAPER_TRAINING + ["test"] * (others - valid) + ["valid"] * valid


def _partition(path: Path, limit: int) -> dict[int, str]:
    """The split of every image by its number."""
    if path.stat().st_size > limit:
        raise _no_partition(path, f"it is larger than {limit} bytes")
    with damaged(path, "text file"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    splits = {}
    for place, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if not match:
            if not line.strip() or (place == 1 and line.strip() == _HEAD):
                continue
            raise _no_partition(path, f"line {place} is {line[:80]!r}, not like '000001.jpg 0'")
        number = int(match[1])
        if number in splits:
            raise _no_partition(path, f"line {place} repeats {_file_name(number)}")
        splits[number] = _SPLITS[int(match[2])]
    if not splits:
        raise _no_partition(path, "it is empty")
    return splits


def _no_partition(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path} is not CelebA's list_eval_partition.txt: {problem}. Give the official one in "
        "config.yaml under `sources.celeba.partition`, or set `split: paper`, which needs none."
    )


def _check_complete(
    images: Mapping[int, _Face], splits: Mapping[int, str], archive: Path, partition: Path
) -> None:
    for there, lacking, problem in (
        (splits, images, f"{archive} lacks {{}} of the images that {partition} lists"),
        (images, splits, f"{partition} has no line for {{}} of the images in {archive}"),
    ):
        if missing := sorted(there.keys() - lacking.keys()):
            raise UserError(
                f"{problem.format(len(missing))}, the first is {_file_name(missing[0])}: give two "
                "complete files that belong together in config.yaml under `sources.celeba`."
            )


def _file_name(number: int) -> str:
    return f"{number:06d}.jpg"
