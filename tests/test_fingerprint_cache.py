"""Kept fingerprints are those of the package as it is."""

import os

import pytest
from helpers.packages import edit, write

from svae.jobs import fingerprint_cache
from svae.jobs.fingerprint import fingerprint
from svae.jobs.fingerprint_cache import FingerprintCache

FILES = {
    "stage.py": "from pkg.helper import shift\n\ndef run(x):\n    return shift(x)\n",
    "helper.py": "def shift(x):\n    return x + 1\n\ndef other():\n    return 1\n",
}
CALLS = (
    (("pkg.stage:run",), {}),
    (("pkg.stage:run", "pkg.helper:other"), {}),
    (("pkg.stage:run",), {"without": ("pkg.helper:shift",)}),
    (("pkg.stage:run",), {"settings": {"rate": 0.1}}),
)


@pytest.fixture
def package(tmp_path):
    return write(tmp_path, FILES)


@pytest.fixture
def computed(monkeypatch):
    """The entries of the fingerprints that are computed."""
    calls = []

    def counting(*entries, **options):
        calls.append(entries)
        return fingerprint(*entries, **options)

    monkeypatch.setattr(fingerprint_cache, "fingerprint", counting)
    return calls


def check(package, file):
    cache = FingerprintCache(file, package)
    for entries, options in CALLS:
        expected = fingerprint(*entries, package_root=package, **options)
        assert cache.fingerprint(*entries, **options) == expected


def test_nothing_is_computed_twice(package, tmp_path, computed):
    for _ in range(3):
        check(package, tmp_path / "kept.json")
    assert len(computed) == len(CALLS)


def test_jobs_find_what_was_computed_before_they_were_submitted(package, tmp_path, computed):
    submitting = FingerprintCache(tmp_path / "kept.json", package)
    for number, (entries, options) in enumerate(CALLS, start=1):
        submitting.fingerprint(*entries, **options)
        job = FingerprintCache(tmp_path / "kept.json", package)
        job.fingerprint(*entries, **options)
        assert len(computed) == number


def test_two_workflows_of_one_folder_keep_what_both_need(package, tmp_path, computed):
    """As with `module`, which reads the rules twice."""
    file = tmp_path / "kept.json"
    caches = [FingerprintCache(file, package) for _ in CALLS]
    for cache, (entries, options) in zip(caches, CALLS, strict=True):
        cache.fingerprint(*entries, **options)
    check(package, file)
    assert len(computed) == len(CALLS)


def edited(package):
    """An edit that a look at sizes and times would miss."""
    path = package / "helper.py"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    edit(package, "helper.py", "x + 1", "x - 1")
    os.utime(path, ns=times)


def added(package):
    (package / "stage").mkdir()
    (package / "stage/__init__.py").write_text(FILES["stage.py"].replace("shift(x)", "2"))
    (package / "stage.py").unlink()


def renamed(package):
    (package / "helper.py").rename(package / "aid.py")
    edit(package, "stage.py", "pkg.helper", "pkg.aid")
    (package / "helper.py").write_text("from pkg.aid import other, shift\n")


@pytest.mark.parametrize("change", [edited, added, renamed])
def test_an_edited_package_is_read_again(package, tmp_path, computed, change):
    check(package, tmp_path / "kept.json")
    change(package)
    check(package, tmp_path / "kept.json")
    assert len(computed) == 2 * len(CALLS)


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", '{"source": 1}', "\0"])
def test_a_damaged_file_is_written_again(package, tmp_path, computed, content):
    file = tmp_path / "kept.json"
    check(package, file)
    file.write_text(content)
    check(package, file)
    check(package, file)
    assert len(computed) == 2 * len(CALLS)


def test_a_file_that_cannot_be_written_is_no_error(package, tmp_path, computed):
    (tmp_path / "kept.json").mkdir()
    check(package, tmp_path / "kept.json")
    assert len(computed) == len(CALLS)
