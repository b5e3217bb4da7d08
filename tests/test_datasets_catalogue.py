import importlib
import re
import subprocess
import sys

import archives
import numpy as np
import pytest

from svae.datasets.catalogue import SourceFile, catalogue

NAMES = list(catalogue())


def all_files(entry):
    return [known for source in entry.files for known in (source, *source.alternatives)]


def test_the_data_sets():
    assert {"mnist_5k", "cifar10"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_complete(name):
    entry = catalogue()[name]
    assert entry.name == name
    assert entry.title
    assert entry.source
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", entry.date)
    assert set(entry.counts) == {"train", "valid", "test"}
    roles = [source.role for source in entry.files]
    assert len(roles) == len(set(roles))
    for source in all_files(entry):
        assert source.url.endswith(source.name)
        assert re.match("https?://", source.url)
        assert source.bytes > 0
        assert source.md5 or source.sha256
        assert source.md5 is None or re.fullmatch("[0-9a-f]{32}", source.md5)
        assert source.sha256 is None or re.fullmatch("[0-9a-f]{64}", source.sha256)


@pytest.mark.parametrize("name", ["mnist_5k", "cifar10"])
def test_networks_see_32_by_32(name):
    entry = catalogue()[name]
    assert entry.height + 2 * entry.padding == entry.width + 2 * entry.padding == 32


@pytest.fixture
def source_files(tmp_path):
    """For each data set, files as large as the official ones where the counts depend on them."""

    def make(name):
        if name == "mnist_5k":
            return {}
        batch = bytes(3073 * 10_000)
        members = {f"{part}.bin": batch for part in (*archives.BATCHES, "test_batch")}
        return {"archive": archives.write_tar(tmp_path / "archive.tar", members, "w")}

    return make


@pytest.mark.parametrize("name", ["mnist_5k", "cifar10"])
def test_the_reader_gives_what_the_entry_says(name, source_files):
    entry = catalogue()[name]
    reader = importlib.import_module(f"svae.datasets.{name}")
    splits = reader.read(source_files(name))
    assert {split: len(images) for split, images in splits.items()} == entry.counts
    for images in splits.values():
        assert images.dtype == np.uint8
        assert images.shape[1:] == (entry.height, entry.width, entry.channels)
    assert "shuffle" in reader.SPLIT_RULE


@pytest.mark.parametrize(
    ("md5", "sha256", "expected"),
    [("aa", "bb", "sha256:bb"), ("aa", None, "md5:aa"), (None, "bb", "sha256:bb")],
)
def test_the_strongest_checksum_is_used(md5, sha256, expected):
    source = SourceFile("archive", "a", "https://example.org/a", 1, md5, sha256)
    assert source.known_hash == expected


def test_the_catalogue_is_light():
    code = (
        "import sys, svae.datasets.catalogue as c; c.catalogue(); "
        "print([m for m in ('numpy', 'h5py', 'pooch', 'requests', 'tensorflow', 'PIL') "
        "if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
