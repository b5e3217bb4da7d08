"""Which files of a folder are the user's, and when their listing changes."""

import os
from pathlib import Path

import pytest

from svae.errors import UserError
from svae.jobs import folders
from svae.jobs.folders import files_in, folder_listing


def listing(folder):
    return folder_listing(folder, (".jpg", ".png"))


def filled(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def folder(tmp_path):
    return filled(tmp_path / "mine", ["a.jpg", "b/c.jpg", "b/d.JPG"])


CHANGES = {
    "added deep down": lambda folder: (folder / "b/e.jpg").touch(),
    "another format": lambda folder: (folder / "b/e.PNG").touch(),
    "taken away": lambda folder: (folder / "b/d.JPG").unlink(),
    "renamed": lambda folder: (folder / "a.jpg").rename(folder / "z.jpg"),
    "written anew": lambda folder: (folder / "b/c.jpg").write_bytes(b"other content"),
    "moved": lambda folder: (folder / "a.jpg").rename(folder / "b/a.jpg"),
    "not UTF-8": lambda folder: (folder / os.fsdecode(b"\xff.jpg")).touch(),
}
# Files that are not read.
OTHERS = ["notes.txt", "b/Thumbs.db", "b/desktop.ini", "b/e.heic", ".DS_Store", ".cache/a.jpg"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_listing_shows_a_change(folder, change):
    before = listing(folder)
    assert listing(folder) == before
    CHANGES[change](folder)
    assert listing(folder) != before


@pytest.mark.parametrize("name", OTHERS)
def test_files_that_are_not_read_change_no_listing(folder, name):
    before = listing(folder)
    filled(folder, [name])
    assert listing(folder) == before


def test_circular_links_end(folder):
    (folder / "b/back").symlink_to(folder)
    (folder / "b/nowhere.jpg").symlink_to(folder / "absent")
    assert listing(folder) == listing(folder)


def test_a_listing_does_not_depend_on_the_spelling_of_the_path(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert listing(".") == listing(folder) == listing(f"{folder}/b/..")


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match=r"absent cannot be read \(No such file"):
        listing(tmp_path / "absent")


MINE = ["1.jpg", "cats/2.jpg", "cats/results/3.jpg", "data/4.jpg"]
OWN = [
    *("results/comparison.png", "results/export_mvn/samples/0.png", "runs/x/a.png"),
    *("set-aside/runs/a.png", "logs/a.png", "benchmarks/out/a.png"),
]


@pytest.mark.parametrize(
    ("outputs", "root"),
    {
        "the working directory": (".", "."),
        "its parent": ("out", ".."),
        "two folders up": ("a/out", "../.."),
    }.values(),
)
def test_outputs_of_the_working_directory_are_no_images(tmp_path, monkeypatch, outputs, root):
    filled(tmp_path, MINE)
    working = tmp_path / outputs
    working.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(working)
    before = listing(root)
    filled(working, OWN)
    assert sorted(name for name, _ in files_in(root)) == MINE
    assert listing(root) == before


def test_outputs_of_other_working_directories_are_no_images(tmp_path):
    filled(tmp_path, MINE)
    before = listing(tmp_path)
    for name in ("first", "second", "deep/third"):
        filled(tmp_path / name, [".snakemake/metadata/x", *OWN])
    assert sorted(name for name, _ in files_in(tmp_path)) == MINE
    assert listing(tmp_path) == before


def test_pictures_of_the_clone_are_no_images(tmp_path, monkeypatch):
    filled(tmp_path, [*MINE, "clone/docs/a.png", "clone/tests/b.png", "clone/mine/c.png"])
    monkeypatch.setattr(folders, "_CLONE", tmp_path / "clone")
    assert sorted(name for name, _ in files_in(tmp_path)) == sorted([*MINE, "clone/mine/c.png"])


@pytest.mark.parametrize("root", ["results", "runs/x"])
def test_a_folder_of_outputs_that_is_asked_for_is_read(tmp_path, monkeypatch, root):
    filled(tmp_path, OWN)
    monkeypatch.chdir(tmp_path)
    assert [name for name, _ in files_in(root)]
    assert all(Path(entry.path).is_file() for _, entry in files_in(root))
