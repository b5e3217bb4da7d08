import logging
from collections import Counter

import pytest
from helpers.archives import KINDS, pack

from svae.datasets.readers import BrokenImage, Raw, images
from svae.datasets.store import unread_in_words
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
def test_everything_else_is_counted_with_one_log_line(tmp_path, kind, caplog):
    others = ["x.txt", "y.TXT", "README", "z.heic", "r.1234", ".jpg", ".a.jpg", "__MACOSX/._a.jpg"]
    path = pack(tmp_path / "mine", dict.fromkeys(["a.jpg", *others], b""), kind)
    raw = Raw({"archive": path}, {"archive": 1 << 24})
    with caplog.at_level(logging.INFO):
        assert [picture.name for picture in images.read(raw)] == ["a.jpg"]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{path}: files of formats that are not read: 2 without a usual suffix, 2 .txt, 1 .heic "
        "(convert HEIC files with ImageMagick: mogrify -format jpg *.heic)"
    )
    assert raw.findings.unread == {"": 2, ".txt": 2, ".heic": 1}
    assert raw.findings.split_rule is None


def test_files_with_many_suffixes_are_counted_on_one_line():
    unread = {f".{letter}": number for number, letter in enumerate("abcdefghijkl", 1)}
    assert unread_in_words(unread) == (
        "12 .l, 11 .k, 10 .j, 9 .i, 8 .h, 7 .g, 6 .f, 5 .e, 10 others"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_without_any_image_names_what_is_there(tmp_path, kind):
    path = pack(tmp_path / "mine", {"notes.txt": b"", "scan.heic": b""}, kind)
    with pytest.raises(
        UserError,
        match=r"mine contains no image, only 1 \.heic, 1 \.txt \(convert HEIC .*mogrify.*: .*"
        r"\.jpg, \.jpeg, .*\.tif.*`sources\.images",
    ):
        read(path)


# Folders that say which split their images belong to.
LAYOUTS = {
    "three folders": ["train/1.jpg", "val/2.jpg", "test/3.jpg"],
    "with classes": ["train/cats/1.jpg", "valid/cats/2.jpg", "test/dogs/3.jpg"],
    "inside a folder": ["faces/Training/1.jpg", "faces/Validation/2.jpg", "faces/Test/3.jpg"],
    "inside classes": ["cats/train/1.jpg", "dogs/val/2.jpg", "cats/test/3.jpg"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_of_splits_are_honoured(tmp_path, layout, kind):
    raw = Raw(
        {"archive": pack(tmp_path / "a", dict.fromkeys(LAYOUTS[layout], b""), kind)},
        {"archive": 9**9},
    )
    found = {picture.name[-5]: picture.split for picture in images.read(raw)}
    assert found == {"1": "train", "2": "valid", "3": "test"}
    assert raw.findings.split_rule == "as its folders train, val and test say"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_of_splits_are_no_labels(tmp_path, layout):
    path = pack(tmp_path / "a", dict.fromkeys(LAYOUTS[layout], b""), "folder")
    labels = {picture.label for picture in read(path)}
    assert (
        labels
        == {
            "three folders": {""},
            "with classes": {"cats", "dogs"},
            "inside a folder": {"faces"},
            "inside classes": {"cats", "dogs"},
        }[layout]
    )


@pytest.mark.parametrize(("there", "missing"), [("val", "test"), ("test", "valid")])
def test_a_split_without_a_folder_is_taken_from_train(tmp_path, there, missing):
    names = [f"train/{number}.jpg" for number in range(300)]
    path = pack(tmp_path / "a", dict.fromkeys([*names, f"{there}/x.jpg"], b""), "folder")
    raw = Raw({"archive": path}, {"archive": 9**9})
    counts = Counter(picture.split for picture in images.read(raw))
    assert counts.keys() == {"train", "valid", "test"}
    assert 15 < counts[missing] < 50 and counts[{"val": "valid"}.get(there, there)] == 1
    assert f"{missing}: 10 % of those in train" in raw.findings.split_rule


@pytest.mark.parametrize(
    "names",
    [["train/1.jpg", "car/2.jpg", "bus/3.jpg"], ["train/1.jpg"], ["test.jpg", "train.jpg"]],
)
def test_classes_named_like_one_split_are_classes(tmp_path, names):
    raw = Raw({"archive": pack(tmp_path / "a", dict.fromkeys(names, b""), "zip")}, {"archive": 99})
    list(images.read(raw))
    assert raw.findings.split_rule is None


UNCLEAR = {
    "one outside": (["train/1.jpg", "test/2.jpg", "3.jpg"], r"but 1 are not, such as 3\.jpg"),
    "others": (["train/1.jpg", "val/2.jpg", "new/3.jpg", "new/4.jpg"], r"2 are not, .*new/3\.jpg"),
    "no training": (["val/1.jpg", "test/2.jpg"], "none in one named train"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_unclear_folders_of_splits_are_asked_about(tmp_path, case):
    names, problem = UNCLEAR[case]
    path = pack(tmp_path / "a", dict.fromkeys(names, b""), "zip")
    with pytest.raises(UserError, match=rf"{problem}.*: move them, or set `split_folders: ignore`"):
        read(path)
    raw = Raw({"archive": path}, {"archive": 99}, {"split_folders": "ignore"})
    assert {picture.name for picture in images.read(raw)} == set(names)
    assert raw.findings.split_rule is None


def test_memory_holds_one_image_at_a_time(tmp_path):
    """The files are read one by one: the error names one that was deleted meanwhile."""
    path = pack(tmp_path / "mine", {"a.jpg": b"1", "b.jpg": b"2"}, "folder")
    pictures = images.read(Raw({"archive": path}, {"archive": 1 << 24}))
    assert next(pictures).content == b"1"
    (path / "b.jpg").unlink()
    assert isinstance(next(pictures).content, BrokenImage)
