"""CelebA: aligned and cropped faces, read from the zip archive without unpacking it to disk.

Source: Z. Liu, P. Luo, X. Wang, X. Tang, "Deep Learning Face Attributes in the Wild", 2015;
https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from svae.datasets.formats.untrusted import damaged
from svae.datasets.formats.zip_file import checked_zip, zip_content
from svae.datasets.readers import Picture, Raw
from svae.errors import UserError

SPLIT_RULE = (
    "split official: as list_eval_partition.txt says; split paper, as the published code: of the "
    "images in the order of their numbers the first 160,000 train, the first half of the others "
    "test, the second half valid"
)

_PAPER_TRAINING = 160_000
_MEMBER_LIMIT = 4 << 20  # bytes; the official JPEGs have about 7,000
_IMAGE = re.compile(r"(?:.*/)?([0-9]{6})\.jpg")
_LINE = re.compile(r"([0-9]{6})\.jpg\s+([012])\s*")
_SPLITS = ("train", "valid", "test")  # as the partition file numbers them


def read(raw: Raw) -> Iterator[Picture]:
    """Yield every face as the bytes of its JPEG file, in the order of the file numbers.

    Args:
        raw: `archive`, img_align_celeba.zip, with its images in a folder of any name. With the
            option split "official" also `partition`, list_eval_partition.txt; "paper" needs none.

    Raises:
        UserError: if a file is not the expected one, is damaged, or the partition does not match
            the images.
    """
    archive = raw.files["archive"]
    with checked_zip(archive, raw.limits["archive"]) as opened:
        images = _images(opened, archive)
        if raw.options.get("split", "official") == "paper":
            splits = dict(zip(images, _paper_splits(len(images), archive), strict=True))
        else:
            splits = _partition(raw.files["partition"], raw.limits["partition"])
            _check_complete(images, splits, archive, raw.files["partition"])
        for number, info in images.items():
            content = zip_content(opened, info, _MEMBER_LIMIT)
            yield Picture(splits[number], _file_name(number), content)


def _images(opened: ZipFile, archive: Path) -> dict[int, ZipInfo]:
    """The members NNNNNN.jpg, by and in the order of their number."""
    images = {}
    for info in opened.infolist():
        if match := _IMAGE.fullmatch(info.filename):
            number = int(match[1])
            if number in images:
                raise UserError(
                    f"{archive} contains {_file_name(number)} twice, in two folders: give the "
                    "official img_align_celeba.zip in config.yaml under `sources.celeba.archive`."
                )
            images[number] = info
    if not images:
        raise UserError(
            f"{archive} contains no image with a name such as 000001.jpg: give the official "
            "img_align_celeba.zip in config.yaml under `sources.celeba.archive`."
        )
    return dict(sorted(images.items()))


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
        lines = path.read_text(encoding="utf-8").splitlines()
    splits = {}
    for place, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if not match:
            if not line.strip():
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
    images: Mapping[int, ZipInfo], splits: Mapping[int, str], archive: Path, partition: Path
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
