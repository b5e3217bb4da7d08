import pytest
from helpers import archives

from svae.datasets.readers import Picture, Raw, celeba
from svae.errors import UserError

LIMITS = {"archive": 1 << 24, "partition": 1 << 20}
COUNT = 12
# Real partitions are in order, but no code depends on that.
LINES = [f"{number:06d}.jpg {number % 3}" for number in range(1, COUNT + 1)]


def face(number):
    return b"face %d" % number * 20


def faces(numbers, folder="img_align_celeba/"):
    return {f"{folder}{number:06d}.jpg": face(number) for number in numbers}


def write_partition(tmp_path, lines=LINES, end="\n"):
    path = tmp_path / "list_eval_partition.txt"
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())
    return path


def read(archive, partition=None, **options):
    files = {"archive": archive} | ({"partition": partition} if partition else {})
    return list(celeba.read(Raw(files, LIMITS, options)))


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\n\n"])
@pytest.mark.parametrize("folder", ["img_align_celeba/", "", "./a/b/"])
@pytest.mark.parametrize("deflated", [False, True])
def test_the_faces_are_in_order_and_split_by_the_partition(tmp_path, deflated, folder, end):
    members = {"img_align_celeba/": b"", "000001.jpg~": b"old", **faces([7, 3, 12], folder)}
    members |= faces(range(1, COUNT + 1), folder) | {"__MACOSX/a/._000001.jpg": b"no"}
    archive = archives.write_zip(tmp_path / "mine.zip", members, deflated)
    found = read(archive, write_partition(tmp_path, reversed(LINES), end))
    splits = ["train", "valid", "test"]
    assert found == [
        Picture(splits[number % 3], f"{number:06d}.jpg", face(number))
        for number in range(1, COUNT + 1)
    ]
    assert found == read(archive, tmp_path / "list_eval_partition.txt", split="official")


def unpacked(tmp_path, members):
    for name, content in members.items():
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "unpacked"


INNER = "img_align_celeba/img_align_celeba/"
ALL = range(1, COUNT + 1)
CSV = ["image_id,partition", *(line.replace(" ", ",") for line in LINES)]
# As people have it: the members, and the lines of the partition.
COPIES = {
    "a folder in a folder": (faces(ALL, INNER), LINES),
    "the folder twice": (faces(ALL) | faces(ALL, INNER), LINES),
    "next to other files": (faces(ALL) | {"list_attr_celeba.csv": b"", "README": b""}, LINES),
    "with Kaggle's partition": (faces(ALL), CSV),
    "all of Kaggle's": (faces(ALL, INNER), [*CSV, ""]),
}


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("copy", COPIES)
def test_celeba_as_people_have_it(tmp_path, copy, folder):
    members, lines = COPIES[copy]
    pack = unpacked if folder else (lambda path, members: archives.write_zip(path / "a", members))
    found = read(pack(tmp_path, members), write_partition(tmp_path, lines))
    splits = ["train", "valid", "test"]
    assert found == [Picture(splits[n % 3], f"{n:06d}.jpg", face(n)) for n in ALL]


def test_two_different_files_of_one_number_in_a_folder(tmp_path):
    path = unpacked(tmp_path, {"a/000001.jpg": b"1", "b/000001.jpg": b"2"})
    with pytest.raises(UserError, match=r"contains 000001\.jpg twice, .* with other content"):
        read(path, write_partition(tmp_path, LINES[:1]))


@pytest.mark.slow
def test_the_published_code_trains_on_the_first_160000_and_scores_on_what_follows(tmp_path):
    # The numbers begin at 1 and have gaps: the position counts, not the number.
    numbers = [*range(1, 160_001), 170_000, 170_001, 170_002, 170_003, 170_004]
    archive = archives.write_zip(tmp_path / "a.zip", {f"{n:06d}.jpg": b"" for n in numbers})
    archive_order = read(archive, split="paper")
    assert [picture.name for picture in archive_order] == [f"{n:06d}.jpg" for n in numbers]
    assert [picture.split for picture in archive_order] == (
        ["train"] * 160_000 + ["test"] * 3 + ["valid"] * 2
    )


@pytest.mark.parametrize("count", [1, 12])
def test_the_published_split_needs_more_images(tmp_path, count):
    archive = archives.write_zip(tmp_path / "a.zip", faces(range(1, count + 1)))
    with pytest.raises(
        UserError, match=rf"a\.zip contains {count} images, but `split: paper`.*160000"
    ):
        read(archive, split="paper")


@pytest.mark.parametrize(
    ("there", "listed", "message"),
    [
        (range(1, 8), range(1, 13), r"a\.zip lacks 5 of the .*partition.txt lists.* 000008\.jpg"),
        (range(2, 13), range(1, 13), r"a\.zip lacks 1 of the .*partition.txt lists.* 000001\.jpg"),
        (range(1, 13), range(1, 11), r"partition.txt has no line for 2 of .*a\.zip.* 000011\.jpg"),
        (range(1, 13), range(10, 15), r"a\.zip lacks 2 of the .* 000013\.jpg"),
    ],
)
def test_a_partition_of_other_images_is_refused_before_any_is_read(
    tmp_path, there, listed, message
):
    archive = archives.write_zip(tmp_path / "a.zip", faces(there))
    partition = write_partition(tmp_path, [f"{number:06d}.jpg 0" for number in listed])
    pictures = celeba.read(Raw({"archive": archive, "partition": partition}, LIMITS))
    with pytest.raises(
        UserError, match=rf"{message}: give two complete files that belong together"
    ):
        next(pictures)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["<!DOCTYPE html><html><head>" + "x" * 5000], "line 1 is '<!DOCTYPE html>"),
        ([*LINES, "000013.jpg 3"], r"line 13 is '000013\.jpg 3', not like '000001\.jpg 0'"),
        ([*LINES, "000013.jpg"], r"line 13 is '000013\.jpg'"),
        ([*LINES, "000013.png 0"], "line 13"),
        ([*LINES, "../../1.jpg 0"], "line 13"),
        ([*LINES, "13 0"], "line 13"),
        ([*LINES, "000013.jpg;0"], "line 13"),
        ([*LINES, "image_id,partition"], "line 13"),
        ([*LINES[:3], "000002.jpg 0"], r"line 4 repeats 000002\.jpg"),
        ([], "it is empty"),
        (["", " "], "it is empty"),
        (["x" * (1 << 20)], "it is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_not_a_partition(tmp_path, lines, problem):
    archive = archives.write_zip(tmp_path / "a.zip", faces(range(1, 13)))
    partition = write_partition(tmp_path, lines)
    message = rf"{partition} is not CelebA's list_eval_partition\.txt: {problem}.*`split: paper`"
    with pytest.raises(UserError, match=message) as error:
        read(archive, partition)
    assert len(str(error.value)) < 500 + len(str(partition))


def test_a_partition_that_is_not_text(tmp_path):
    archive = archives.write_zip(tmp_path / "a.zip", faces(range(1, 13)))
    partition = tmp_path / "p.txt"
    partition.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match=r"p\.txt cannot be read as a text file"):
        read(archive, partition)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"holiday.jpg": b"1", "1.jpg": b"2", "a000001.jpg": b"3"},
            "contains no image with a name",
        ),
        ({"a/000001.jpg": b"1", "b/000001.jpg": b"2"}, r"contains 000001\.jpg twice"),
        ({"000001.jpg": bytes((4 << 20) + 1)}, r"'000001\.jpg' has 4194305 bytes, more than"),
    ],
)
def test_another_zip_archive_is_refused(tmp_path, members, message):
    archive = archives.write_zip(tmp_path / "a.zip", members)
    partition = write_partition(tmp_path, LINES[:1])
    with pytest.raises(UserError, match=rf"a\.zip:? {message}"):
        read(archive, partition)


def test_nothing_is_unpacked_to_disk(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    archive = archives.write_zip(tmp_path / "a.zip", faces(range(1, 13)))
    partition = write_partition(tmp_path)
    raw = Raw({"archive": archive, "partition": partition}, LIMITS, {}, scratch=folder)
    for _ in celeba.read(raw):
        assert list(folder.iterdir()) == []
        assert sorted(tmp_path.iterdir()) == sorted([archive, partition, folder])
