import collections
import datetime
import gzip
import importlib
import itertools
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import yaml
from helpers import archives

from svae.datasets import catalogue as module
from svae.datasets.catalogue import SourceFile, catalogue
from svae.datasets.readers import Raw
from svae.errors import UserError

NAMES = list(catalogue())


def all_files(entry):
    return [known for source in entry.files for known in (source, *source.alternatives)]


def test_the_data_sets():
    assert NAMES[:7] == ["mnist_5k", "mnist", "cifar10", "svhn", "celeba", "lsun", "images"]


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_complete(name):
    entry = catalogue()[name]
    assert entry.name == name
    assert entry.title
    assert entry.license and not entry.license.endswith(".")
    assert entry.source
    assert entry.channels in (1, 3)
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", entry.date)
    assert entry.counts is None or set(entry.counts) == {"train", "valid", "test"}
    assert (entry.height is None) == (entry.width is None)
    # Images of different sizes need a crop and a size.
    assert entry.height or (entry.crop and entry.size)
    assert entry.by_hand or not any(source.urls for source in entry.files)


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_of_options_needs_each_role_once(name):
    entry = catalogue()[name]
    for choice in itertools.product(*entry.options.values()):
        chosen = entry.chosen(dict(zip(entry.options, choice, strict=True)))
        roles = [source.role for source in chosen.files]
        assert len(roles) == len(set(roles))
        assert "{" not in chosen.title


def test_data_sets_share_no_option():
    """The default of an option under `conversion` is the first choice of its one data set."""
    options = [option for entry in catalogue().values() for option in entry.options]
    assert len(options) == len(set(options))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_has_addresses_and_checksums_or_neither(name):
    for source in all_files(catalogue()[name]):
        assert source.limit > (source.bytes or 0)
        if not source.urls:
            assert source.known_hash is None and source.bytes is None
            continue
        assert source.bytes > 0
        assert re.fullmatch("[0-9a-f]{64}", source.sha256)
        assert source.md5 is None or re.fullmatch("[0-9a-f]{32}", source.md5)
        for url in source.urls:
            drive = re.match(r"https://drive\.google\.com/uc\?id=[\w-]+$", url)
            assert drive or (re.match("https?://", url) and url.endswith(f"/{source.name}"))


# facts on which the literature and the official pages agree
OFFICIAL = {
    "mnist": (70_000, 10_000),
    "cifar10": (60_000, 10_000),
    "svhn": (73_257 + 26_032, 26_032),
    "celeba": (202_599, 19_962),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_counts_add_up(name):
    counts = catalogue()[name].counts
    assert (sum(counts.values()), counts["test"]) == OFFICIAL[name]


@pytest.mark.parametrize("name", ["mnist_5k", "mnist", "cifar10", "svhn"])
def test_networks_see_32_by_32(name):
    entry = catalogue()[name]
    assert entry.height + 2 * entry.padding == entry.width + 2 * entry.padding == 32


@pytest.fixture
def source_files(tmp_path):
    """For each data set, files as large as the official ones if the counts depend on them."""

    def make(name):
        if name == "mnist_5k":
            return {}
        if name == "mnist":
            counts = {"train_images": 60_000, "test_images": 10_000}
            for role, count in counts.items():
                content = struct.pack(">IIII", 2051, count, 28, 28) + bytes(count * 784)
                (tmp_path / role).write_bytes(gzip.compress(content, 1))
            return {role: tmp_path / role for role in counts}
        if name == "svhn":
            counts = {"train": 73_257, "test": 26_032}
            for role, count in counts.items():
                content = {"X": np.zeros((32, 32, 3, count), np.uint8), "y": np.zeros((count, 1))}
                scipy.io.savemat(tmp_path / role, content, appendmat=False, do_compression=True)
            return {role: tmp_path / role for role in counts}
        batch = bytes(3073 * 10_000)
        members = {f"{part}.bin": batch for part in (*archives.BATCHES, "test_batch")}
        return {"archive": archives.write_tar(tmp_path / "archive.tar", members, "w")}

    return make


@pytest.mark.parametrize("name", ["mnist_5k", "mnist", "cifar10", "svhn"])
def test_the_reader_yields_the_images_that_the_entry_declares(name, source_files):
    entry = catalogue()[name]
    reader = importlib.import_module(f"svae.datasets.readers.{name}")
    raw = Raw(source_files(name), {file.role: file.limit for file in entry.files})
    counts = collections.Counter()
    shape = (entry.height, entry.width, entry.channels)
    for split, _, image, _ in reader.read(raw):
        counts[split] += 1
        assert (image.dtype, image.shape) == (np.uint8, shape)
    assert counts == entry.counts
    assert "shuffle" in reader.SPLIT_RULE


@pytest.mark.parametrize(
    ("md5", "sha256", "expected"),
    [
        ("aa", "bb", "sha256:bb"),
        ("aa", None, "md5:aa"),
        (None, "bb", "sha256:bb"),
        (None, None, None),
    ],
)
def test_the_strongest_checksum_is_used(md5, sha256, expected):
    source = SourceFile("archive", "a", limit=1, md5=md5, sha256=sha256)
    assert source.known_hash == expected


def test_the_catalogue_imports_nothing_heavy():
    code = (
        "import sys, svae.datasets.catalogue as c; c.catalogue(); "
        "print([m for m in ('numpy', 'h5py', 'requests', 'tensorflow', 'PIL') "
        "if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


ENTRY = {
    **{"title": "Quick", "channels": 1, "license": "CC0-1.0", "source": "a", "date": "2026-11-23"},
    "files": [{"role": "archive", "name": "a.npy", "limit": 100}],
}


@pytest.mark.parametrize(
    ("change", "problem"),
    {
        "no date": ({"date": None}, "quick has no date"),
        "no licence": ({"license": None}, "quick has no license"),
        "a date without quotes": ({"date": datetime.date(2026, 11, 23)}, "quick.date is .* quotes"),
        "unknown": ({"colour": "grey"}, "quick has an unknown key colour"),
        "text as a number": ({"channels": "three"}, "quick.channels is 'three'; .* whole number"),
        "file without limit": (
            {"files": [{"role": "archive", "name": "a"}]},
            "quick.files has no limit",
        ),
        "file as text": ({"files": ["a.npy"]}, "quick.files is 'a.npy', not a mapping"),
    }.values(),
)
def test_a_wrong_entry_is_one_message(change, problem, tmp_path, monkeypatch):
    entry = {key: value for key, value in (ENTRY | change).items() if value is not None}
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"quick": entry}))
    monkeypatch.setattr(module, "TABLE", tmp_path / "sources.yaml")
    with pytest.raises(UserError, match=rf"sources\.yaml: {problem}.*; the head of the file"):
        module.catalogue.__wrapped__()
