"""Files and folders that are set aside: their return, their list, and their deletion."""

import errno
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from svae.errors import UserError
from svae.jobs import set_aside
from svae.jobs.files import read_json, write_json
from svae.jobs.set_aside import SetAside, folder_for

SMALL, LARGE = {"settings": {"size": 32}, "code": "a"}, {"settings": {"size": 64}, "code": "a"}
STORE, RUN = Path("data/waves.h5"), Path("runs/waves/mvn/seed-0")


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convert(identity, content):
    """What the rule does after its output was deleted; returns whether it converted."""
    STORE.parent.mkdir(exist_ok=True)
    STORE.unlink(missing_ok=True)
    aside = SetAside(STORE, folder_for(STORE))
    if aside.link_back(identity):
        return False
    STORE.write_bytes(content)
    aside.keep(identity)
    return True


def train(epochs, rate=0.1):
    """Make a run of this identity; one that is already there is set aside."""
    aside = SetAside(RUN, folder_for(RUN))
    if RUN.exists():
        aside.put(read_json(RUN / "identity.json"))
    identity = {"settings": {"epochs": epochs, "learning_rate": rate}, "seed": 0}
    write_json(RUN / "identity.json", identity)
    (RUN / "checkpoints").mkdir()
    (RUN / "checkpoints/about.json").write_bytes(bytes(500_000))  # some name
    return identity


def places():
    return [entry.place for entry in set_aside.found(set_aside.FOLDER)]


def test_a_file_is_made_once_for_each_identity():
    made = [convert(*each) for each in ((SMALL, b"32"), (LARGE, b"64"), (SMALL, b""), (LARGE, b""))]
    assert made == [True, True, False, False]
    assert STORE.read_bytes() == b"64"
    assert STORE.stat().st_nlink == 2
    # The same again, without Snakemake's deletion.
    assert SetAside(STORE, folder_for(STORE)).link_back(LARGE)
    SetAside(STORE, folder_for(STORE)).keep(LARGE)
    assert STORE.read_bytes() == b"64" and len(places()) == 1


def test_an_identity_may_contain_tuples():
    identity = {"files": [("archive", "a.zip", None)]}
    assert convert(identity, b"x") and not convert(identity, b"y")


def test_a_damaged_file_is_made_again(caplog):
    convert(SMALL, b"32")
    with STORE.open("r+b") as file:  # both names belong to one file
        file.write(b"xx")
    assert convert(SMALL, b"32")
    assert "waves.h5 is damaged" in caplog.text
    assert not convert(SMALL, b"") and STORE.read_bytes() == b"32"


def test_without_hard_links_a_file_is_not_kept(monkeypatch, caplog):
    def refused(self, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    caplog.set_level("INFO")
    assert convert(SMALL, b"32") and convert(LARGE, b"64") and convert(SMALL, b"32")
    assert "data/waves.h5 will not be kept" in caplog.text
    assert places() == []


def test_different_files_have_different_stamps(tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(b"1")
    first = set_aside.stamp(path)
    path.write_bytes(b"22")
    assert set_aside.stamp(path) != first
    os.utime(path, ns=(1, 1))
    assert set_aside.stamp(path) == ["archive", 2, 1]


def test_equal_identities_have_separate_folders():
    for _ in range(3):
        train(2)
    assert len(places()) == 2


@pytest.mark.parametrize("killed", [False, True])
def test_another_file_system(monkeypatch, killed):
    """It is copied completely before it is deleted; an interrupted copy is made again."""

    def refused(self, target):
        if self.parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    rename = Path.rename
    identity = train(2)
    before = sorted(path.relative_to(RUN) for path in RUN.rglob("*"))
    monkeypatch.setattr(Path, "rename", refused)
    aside = SetAside(RUN, folder_for(RUN))
    if killed:
        with monkeypatch.context() as patch, pytest.raises(OSError):
            patch.setattr(set_aside.shutil, "copytree", _half_a_copy)
            aside.put(identity)
        assert RUN.exists() and aside.entries() == []
    aside.put(identity)
    assert not RUN.exists()
    (entry,) = aside.entries()
    assert aside.bring_back(entry) and aside.entries() == []
    assert sorted(path.relative_to(RUN) for path in RUN.rglob("*")) == before
    assert [path.name for path in RUN.parent.iterdir()] == [RUN.name]


def _half_a_copy(source, target, **keywords):
    Path(target).mkdir()
    raise OSError(errno.ENOSPC, "No space left on device")


def test_deleted_entries_do_not_return():
    train(2)
    train(3)
    aside = SetAside(RUN, folder_for(RUN))
    (entry,) = aside.entries()
    set_aside.main(["--delete"])
    assert not aside.bring_back(entry)


def test_the_list(capsys):
    set_aside.main([])
    assert capsys.readouterr().out == "nothing is set aside\n"
    train(2)
    train(3, rate=0.2)
    convert(SMALL, b"32")
    convert(LARGE, b"64")
    set_aside.main([])
    head, *lines, total = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["set", "aside"]
    store, run = (line.split(maxsplit=4) for line in lines)
    today = f"{datetime.now():%F}"
    assert Path(store[0]).parent == folder_for(STORE) and store[-2:] == [today, "size"]
    assert Path(run[0]).parent == folder_for(RUN)
    assert run[1:] == ["2", "0.5", today, "epochs, learning_rate"]
    assert total == "2 set aside, 0.5 MB"


def test_nothing_else_is_deleted(capsys, tmp_path):
    """Neither current files, nor files that a user put into the tree."""
    for epochs in (2, 3):
        train(epochs)
    convert(SMALL, b"32")
    convert(LARGE, b"64")
    own = Path(set_aside.FOLDER, "runs/mine/notes.txt")
    own.parent.mkdir()
    own.write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    write_json(outside / "about.json", read_json(places()[0] / "about.json"))
    (outside / "waves.h5").write_text("not in the tree")
    Path(set_aside.FOLDER, "link").symlink_to(outside)
    set_aside.main(["--delete"])
    assert capsys.readouterr().out.splitlines()[-1] == "2 deleted, 0.5 MB"
    assert places() == [] and own.exists() and (outside / "waves.h5").exists()
    assert read_json(RUN / "identity.json")["settings"]["epochs"] == 3
    assert not convert(LARGE, b"")  # which is current
    assert convert(SMALL, b"32")


def test_only_old_or_named_entries_are_deleted(capsys, monkeypatch, tmp_path):
    for epochs in (2, 3, 4):
        train(epochs)
    first, second = places()
    about = read_json(first / "about.json")
    about["set_aside"] = (datetime.now() - timedelta(days=31)).isoformat()
    write_json(first / "about.json", about)
    set_aside.main(["--older-than", "40", "--delete"])
    assert capsys.readouterr().out == "nothing older is set aside\n"
    monkeypatch.chdir("/")
    set_aside.main(["--older-than", "30", "--delete", "--directory", str(tmp_path)])
    assert places() == [second]
    with pytest.raises(UserError, match=r"^nothing is set aside in runs/waves; "):
        set_aside.main(["--delete", "runs/waves"])
    set_aside.main(["--delete", str(second)])
    assert places() == []


def test_an_interrupted_deletion_is_finished(monkeypatch):
    train(2)
    train(3)

    def cut(path, **keywords):
        if path.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(set_aside.shutil, "rmtree", cut)
        set_aside.main(["--delete"])
    assert places() == [] and list(Path(set_aside.FOLDER).rglob("checkpoints")) != []
    set_aside.main(["--delete"])
    assert list(Path(set_aside.FOLDER).rglob("checkpoints")) == []


@pytest.mark.parametrize(
    "path", [STORE, RUN, Path("/scratch/job/data/waves.h5"), Path("/waves.h5")]
)
def test_what_is_set_aside_lies_in_the_working_folder(path):
    folder = folder_for(path)
    assert not folder.is_absolute() and folder.parts[0] == "set-aside"
    assert folder.parts[1:] == tuple(part for part in path.parts if part != "/")
