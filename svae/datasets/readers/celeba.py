"""CelebA, aligned and cropped faces, read from its zip archive without unpacking it to disk.

Source: Z. Liu, P. Luo, X. Wang, X. Tang, "Deep Learning Face Attributes in the Wild", 2015;
https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from svae.datasets.formats.archives import checked_zip, damaged, zip_content
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
    """Every face as the bytes of its JPEG file, in the order of the numbers.

    Args:
        raw: `archive`, img_align_celeba.zip; its images may lie in any one folder. With the option
            split "official" also `partition`, list_eval_partition.txt; "paper" needs none.

    Raises:
        UserError: not such a file, a damaged one, or a partition of other images.
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
    """The members NNNNNN.jpg by number, in its order."""
    images = {}
    for info in opened.infolist():
        if match := _IMAGE.fullmatch(info.filename):
            number = int(match[1])
            if number in images:
                raise UserError(
                    f"{archive} holds {_file_name(number)} twice, in different folders: give the "
                    "official img_align_celeba.zip in config.yaml under `sources.celeba.archive`."
                )
            images[number] = info
    if not images:
        raise UserError(
            f"{archive} holds no image that is called 000001.jpg or the like: give the official "
            "img_align_celeba.zip in config.yaml under `sources.celeba.archive`."
        )
    return dict(sorted(images.items()))


def _paper_splits(count: int, archive: Path) -> list[str]:
    """The split of each of `count` images; the published scoring starts right after training."""
    others = count - _PAPER_TRAINING
    if others < 2:
        raise UserError(
            f"{archive} holds {count} images, but `split: paper` trains on the first "
            f"{_PAPER_TRAINING} and needs others to score on: give the whole archive, or "
            "`split: official` in config.yaml."
        )
    valid = others // 2
    return ["train"] * _PAPER_TRAINING + ["test"] * (others - valid) + ["valid"] * valid


def _partition(path: Path, limit: int) -> dict[int, str]:
    """The split of every image by its number."""
    if path.stat().st_size > limit:
        raise _no_partition(path, f"it has more than {limit} bytes")
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
            raise _no_partition(path, f"line {place} names {_file_name(number)} a second time")
        splits[number] = _SPLITS[int(match[2])]
    if not splits:
        raise _no_partition(path, "it is empty")
    return splits


def _no_partition(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path} is not CelebA's list_eval_partition.txt: {problem}. Give the official one in "
        "config.yaml under `sources.celeba.partition`, or `split: paper`, which needs none."
    )


def _check_complete(
    images: Mapping[int, ZipInfo], splits: Mapping[int, str], archive: Path, partition: Path
) -> None:
    for there, lacking, problem in (
        (splits, images, f"{archive} lacks {{}} of the images that {partition} names"),
        (images, splits, f"{partition} has no line for {{}} of the images in {archive}"),
    ):
        if missing := sorted(there.keys() - lacking.keys()):
            raise UserError(
                f"{problem.format(len(missing))}, the first being {_file_name(missing[0])}: give "
                "two files that belong together, both of them whole, in config.yaml under "
                "`sources.celeba`."
            )


def _file_name(number: int) -> str:
    return f"{number:06d}.jpg"
