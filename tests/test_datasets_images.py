import logging
from collections import Counter

import pytest
from helpers.archives import KINDS, pack

from svae.datasets.readers import BrokenImage, Raw, images
from svae.errors import UserError

NAMES = ["b.PNG", "a.jpg", "deep/er/c.JPEG", "deep/d.WebP", "Ärger/é.jpg"]


def read(path):
    return list(images.read(Raw({"archive": path}, {"archive": 1 << 24})))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_suffix_are_yielded_unchanged_with_their_names(tmp_path, kind, caplog):
    contents = {name: name.encode() for name in NAMES}
    pictures = read(pack(tmp_path / "mine", contents, kind))
    order = NAMES if kind.startswith("tar") else sorted(NAMES)
    assert [(picture.name, picture.content) for picture in pictures] == [
        (name, name.encode()) for name in order
    ]
    assert caplog.records == []


def split_of(pictures):
    return {picture.name: picture.split for picture in pictures}


def test_the_split_depends_on_the_name_only(tmp_path):
    names = [f"faces/{number}.jpg" for number in range(300)]
    found = {}
    for kind in KINDS:
        pictures = read(pack(tmp_path / kind, {name: kind.encode() for name in names}, kind))
        found[kind] = split_of(pictures)
    assert all(splits == found["zip"] for splits in found.values())
    counts = Counter(found["zip"].values())
    assert counts.keys() == {"train", "valid", "test"}
    assert abs(counts["train"] - 240) < 30
    assert abs(counts["valid"] - 30) < 20

    fewer = read(pack(tmp_path / "fewer", dict.fromkeys(names[::3], b""), "zip"))
    assert split_of(fewer) == {name: found["zip"][name] for name in names[::3]}


def test_a_folder_around_all_images_is_part_of_their_names(tmp_path):
    path = pack(tmp_path / "a", {f"faces/{number}.jpg": b"" for number in range(100)}, "zip")
    inner = pack(tmp_path / "b", {f"{number}.jpg": b"" for number in range(100)}, "zip")
    with_folder, without = split_of(read(path)), split_of(read(inner))
    assert set(with_folder) == {f"faces/{number}.jpg" for number in range(100)}
    assert [with_folder[f"faces/{name}"] for name in without] != list(without.values())


@pytest.mark.parametrize("kind", KINDS)
def test_everything_else_is_skipped_with_one_log_line(tmp_path, kind, caplog):
    others = ["x.txt", "y.TXT", "README", "z.tiff", ".jpg", ".hidden.jpg", "__MACOSX/._a.jpg"]
    path = pack(tmp_path / "mine", dict.fromkeys(["a.jpg", *others], b""), kind)
    with caplog.at_level(logging.INFO):
        assert [picture.name for picture in read(path)] == ["a.jpg"]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{path}: skipped 1 without a suffix, 1 .tiff, 2 .txt; only .jpg, .jpeg, .png, .webp "
        "are read"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_without_any_image_names_the_suffixes(tmp_path, kind):
    path = pack(tmp_path / "mine", {"notes.txt": b"", "scan.tif": b""}, kind)
    with pytest.raises(
        UserError, match=r"mine contains no image: .*\.jpg, \.jpeg, \.png, \.webp.*`sources\.images"
    ):
        read(path)


def test_memory_holds_one_image_at_a_time(tmp_path):
    """The files are read one by one: the error names one that was deleted meanwhile."""
    path = pack(tmp_path / "mine", {"a.jpg": b"1", "b.jpg": b"2"}, "folder")
    pictures = images.read(Raw({"archive": path}, {"archive": 1 << 24}))
    assert next(pictures).content == b"1"
    (path / "b.jpg").unlink()
    assert isinstance(next(pictures).content, BrokenImage)
