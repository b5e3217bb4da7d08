"""Sources and conversion in the configuration, for every data set."""

import json

import pytest
import yaml
from helpers.refusals import check_one_line
from helpers.workflow import CLONE

from svae.config.resolve import resolve
from svae.config.schema import config_schema
from svae.datasets.catalogue import catalogue
from svae.errors import UserError

MINIMAL = {"variants": {"mvn": {"posterior": "mvn"}}}
DIGITS = "0123456789ABCDEF" * 4
OTHER = "ab" * 32
KNOWN = catalogue()
FETCHED = [name for name, entry in KNOWN.items() if any(file.urls for file in entry.files)]


def resolved(text, working=CLONE):
    return resolve({**MINIMAL, **yaml.safe_load(text)}, working)


# Sources ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FETCHED)
def test_sources_default_to_the_official_ones(name):
    sources = resolved(f"dataset: {name}").sources
    first = {option: choices[0] for option, choices in KNOWN[name].options.items()}
    files = [file for file in KNOWN[name].chosen(first).files if not file.optional]
    assert list(sources) == [file.role for file in files]
    for file in files:
        source = sources[file.role]
        assert (source.name, source.urls, source.bytes) == (file.name, file.urls, file.bytes)
        assert (source.path, source.sha256) == (None, None)
        assert source.known_hash == f"sha256:{file.sha256}"


@pytest.mark.parametrize("name", FETCHED)
def test_a_path_an_address_and_official_for_every_role(name, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/own").touch()
    for file in (
        KNOWN[name]
        .chosen({option: choices[0] for option, choices in KNOWN[name].options.items()})
        .files
    ):

        def source(location, file=file):
            text = f"{{dataset: {name}, sources: {{{name}: {{{file.role}: {location}}}}}}}"
            return resolved(text, tmp_path).sources[file.role]

        own = source("sub/own")
        assert (own.path, own.name, own.urls) == ("sub/own", "own", ())
        assert (own.known_hash, own.bytes, own.sha256) == (None, None, None)
        other = source("https://localhost/x/copy.bin")
        assert (other.path, other.name) == (None, "copy.bin")
        assert other.urls == ("https://localhost/x/copy.bin",)
        assert other.known_hash == f"sha256:{file.sha256}"
        assert source("official").urls == file.urls


@pytest.mark.parametrize("extra", [False, True])
def test_the_extra_images_of_svhn_are_read_only_if_asked_for(extra):
    text = "{dataset: svhn, sources: {svhn: {extra: official}}}" if extra else "dataset: svhn"
    assert ("extra" in resolved(text).sources) == extra


@pytest.mark.parametrize(
    ("name", "given", "role"),
    [
        ("cifar10", f"'{DIGITS}'", "archive"),
        ("celeba", f"'{DIGITS}'", "archive"),
        ("celeba", f"{{partition: '{DIGITS}'}}", "partition"),
        ("svhn", f"{{test: '{DIGITS}'}}", "test"),
    ],
)
@pytest.mark.parametrize("location", [None, "own.file", "https://localhost/own.file"])
def test_another_checksum_can_be_accepted(name, given, role, location, tmp_path):
    (tmp_path / "own.file").touch()
    place = f"{role}: {location}, " if location else ""
    text = f"{{dataset: {name}, sources: {{{name}: {{{place}sha256: {given}}}}}}}"
    for source in resolved(text, tmp_path).sources.values():
        if source.role != role:
            assert source.sha256 is None
            continue
        assert source.sha256 == DIGITS.lower()
        fetched = location != "own.file"
        assert source.known_hash == (f"sha256:{DIGITS.lower()}" if fetched else None)
        assert source.bytes is None


ADDRESSES = {
    "https://example.org/a/own.tar.gz?download=1": "own.tar.gz",
    "HTTP://example.org/x.tgz": "x.tgz",
    "https://example.org": None,
    "https://example.org/{x}.tgz": None,
    "ftp://example.org/x.tgz": None,
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_of_sources(address, tmp_path):
    text = f"{{dataset: cifar10, sources: {{cifar10: {{archive: '{address}'}}}}}}"
    if ADDRESSES[address]:
        source = resolved(text, tmp_path).sources["archive"]
        assert source.path is None and source.name == ADDRESSES[address]
    else:
        with pytest.raises(UserError, match=r"sources\.cifar10\.archive is "):
            resolved(text, tmp_path)


@pytest.mark.parametrize("location", ["official", "https://localhost/cifar-10-binary.tar.gz"])
def test_the_official_checksum_keeps_the_size(location):
    (file,) = KNOWN["cifar10"].files
    own = f"{{archive: '{location}', sha256: {file.sha256}}}"
    source = resolved(f"{{dataset: cifar10, sources: {{cifar10: {own}}}}}").sources["archive"]
    assert (source.bytes, source.known_hash) == (file.bytes, file.known_hash)


def test_braces_in_a_path_are_refused(tmp_path):
    (tmp_path / "{x}.tar.gz").touch()
    text = "{dataset: cifar10, sources: {cifar10: {archive: '{x}.tar.gz'}}}"
    with pytest.raises(UserError, match=r"sources\.cifar10\.archive .*braces.*rename"):
        resolved(text, tmp_path)


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.tar.gz").touch()
    text = "{dataset: cifar10, sources: {cifar10: {archive: ~/own.tar.gz}}}"
    assert resolved(text).sources["archive"].path == str(tmp_path / "own.tar.gz")


def test_an_address_of_the_python_archive_must_have_its_checksum():
    address = "https://localhost/cifar-10-python.tar.gz"
    text = f"{{dataset: cifar10, sources: {{cifar10: {{archive: '{address}'}}}}}}"
    (python,) = KNOWN["cifar10"].files[0].alternatives
    assert resolved(text).sources["archive"].known_hash == python.known_hash


WRONG = {
    "missing": (
        "{dataset: cifar10, sources: {cifar10: {archive: no/such.tar.gz}}}",
        ["sources.cifar10.archive is 'no/such.tar.gz'", "no such file", "correct the path"],
    ),
    "a folder": (
        "{dataset: cifar10, sources: {cifar10: {archive: docs}}}",
        ["sources.cifar10.archive is 'docs'", "a folder", "cifar-10-binary.tar.gz"],
    ),
    "images of nowhere": ("dataset: images", ["sources.images.archive is missing", "folder, zip"]),
    "images that are not there": (
        "{dataset: images, sources: {images: {archive: no/folder}}}",
        ["sources.images.archive is 'no/folder'", "correct the path"],
    ),
    "images without checksum": (
        "{dataset: images, sources: {images: {archive: https://localhost/x.zip}}}",
        ["sources.images.archive", "no checksum of it is known", "SHA-256"],
    ),
    "own category": (
        "{dataset: lsun, conversion: {category: own}}",
        ["sources.lsun.train is missing"],
    ),
    "two of one name": (
        "{dataset: svhn, sources: {svhn: {train: 'https://a/x.mat', test: 'https://b/x.mat'}}}",
        ["sources.svhn.test and .train", "x.mat"],
    ),
    "one checksum for two files": (
        f"{{dataset: mnist, sources: {{mnist: {{sha256: '{OTHER}'}}}}}}",
        ["sources.mnist.sha256", "SHA-256 by role"],
    ),
    "checksum of no role": (
        f"{{dataset: mnist, sources: {{mnist: {{sha256: {{train: '{OTHER}'}}}}}}}}",
        ["sources.mnist.sha256.train", "train_images"],
    ),
    "no choice": ("{dataset: celeba, conversion: {split: papr}}", ["did you mean paper?"]),
    "a broken address": (
        "{dataset: cifar10, sources: {cifar10: {archive: 'http://[::1/x.zip'}}}",
        ["sources.cifar10.archive is", "without a plain file name"],
    ),
    "an address that leads out": (
        "{dataset: cifar10, sources: {cifar10: {archive: 'https://localhost/..'}}}",
        ["sources.cifar10.archive is", "without a plain file name"],
    ),
    "checksum of a file that is not read": (
        f"{{dataset: svhn, sources: {{svhn: {{sha256: {{extra: '{OTHER}'}}}}}}}}",
        ["sources.svhn.sha256.extra", "not read", "remove it"],
    ),
    "crop of images": (
        "{dataset: images, sources: {images: {archive: docs}}, conversion: {crop: null}}",
        ["conversion.crop is null", "differ in size"],
    ),
    "size of images": (
        "{dataset: images, sources: {images: {archive: docs}}, conversion: {size: null}}",
        ["conversion.size is null", "differ in size"],
    ),
    "no crop of celeba": (
        "{dataset: celeba, conversion: {crop: null}}",
        ["conversion.crop is null", "218x178", "distort", "178"],
    ),
    "crop beyond celeba": (
        "{dataset: celeba, conversion: {crop: 200}}",
        ["conversion.crop is 200", "218x178"],
    ),
    "typo of a crop": ("{dataset: celeba, conversion: {crop: sqare}}", ["did you mean square?"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_source_or_conversion_gives_one_line_with_key_and_remedy(name):
    check_one_line(resolved, *WRONG[name])


def test_a_missing_source_of_another_data_set_does_not_matter():
    text = "{dataset: mnist_5k, sources: {cifar10: {archive: no/such.tar.gz}}}"
    assert resolved(text).sources == {}


def test_the_schema_has_the_data_sets():
    properties = config_schema()["properties"]
    assert properties["dataset"]["enum"] == list(KNOWN)
    for entry in KNOWN.values():
        for option, choices in entry.options.items():
            setting = properties["conversion"]["properties"][option]
            assert (setting["enum"], setting["default"]) == (list(choices), choices[0])
    sources = properties["sources"]["properties"]
    assert set(sources) == {name for name, entry in KNOWN.items() if entry.files}
    for name, schema in sources.items():
        roles = {file.role for file in KNOWN[name].files}
        assert set(schema["properties"]) == roles | {"sha256"}


# Conversion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "crop", "size", "pixels"),
    [
        ("mnist_5k", "", None, None, 28 * 28),
        ("mnist", "", None, None, 28 * 28),
        ("cifar10", "", None, None, 32 * 32 * 3),
        ("cifar10", "crop: square", None, None, 32 * 32 * 3),
        ("cifar10", "color: grey", None, None, 32 * 32),
        ("svhn", "size: 64", None, 64, 64 * 64 * 3),
        ("celeba", "", 148, 64, 64 * 64 * 3),
        ("celeba", "crop: 108", 108, 64, 64 * 64 * 3),
        ("celeba", "crop: square, size: 128", "square", 128, 128 * 128 * 3),
        ("celeba", "crop: 128, size: null, color: grey", 128, None, 128 * 128),
        ("lsun", "", "square", 64, 64 * 64 * 3),
        ("images", "", "square", 64, 64 * 64 * 3),
        ("images", "crop: 64, size: null", 64, None, 64 * 64 * 3),
        ("images", "color: grey, size: 32", "square", 32, 32 * 32),
    ],
)
def test_crop_size_and_colour(name, changes, crop, size, pixels):
    own = "sources: {images: {archive: docs}}, "
    config = resolved(f"{{dataset: {name}, {own}conversion: {{{changes}}}}}")
    assert (config.conversion.crop, config.conversion.size) == (crop, size)
    # w = D / (N d^2) shows the dimension that the objective uses.
    assert config.variants["mvn"].kl_weight == pytest.approx(pixels / 576)


@pytest.mark.parametrize("name", KNOWN)
def test_a_data_set_has_only_its_own_options(name):
    files = ", ".join(f"{file.role}: README.md" for file in KNOWN[name].files if not file.urls)
    own = f"sources: {{{name}: {{{files}}}}}, " if name != "lsun" and files else ""
    others = "{category: church_outdoor, split: paper}"  # do not matter where they do not apply
    options = resolved(f"{{dataset: {name}, {own}conversion: {others}}}")
    assert set(options.conversion.options) == set(KNOWN[name].options)


def test_the_split_of_the_paper_needs_no_partition():
    config = resolved("{dataset: celeba, conversion: {split: paper}}")
    assert list(config.sources) == ["archive"]
    assert config.conversion.options == {"split": "paper"}


def test_a_category_has_its_own_files():
    config = resolved("{dataset: lsun, conversion: {category: church_outdoor}}")
    assert [source.name for source in config.sources.values()] == [
        "church_outdoor_train_lmdb.zip",
        "church_outdoor_val_lmdb.zip",
    ]
    assert config.dataset.title == "LSUN church_outdoor"


def test_counts_are_checked_only_where_they_are_known():
    text = "{dataset: celeba, parzen: {n_test: 19963}%s}"
    with pytest.raises(UserError, match=r"parzen\.n_test is 19963, but celeba has 19962"):
        resolved(text % "")
    assert resolved(text % ", conversion: {split: paper}").parzen.n_test == 19963


# A part of a data set, and its name --------------------------------------------------------------


def test_lsun_without_val_images(tmp_path):
    (tmp_path / "cat.zip").touch()
    text = "{dataset: lsun, conversion: {category: own}, sources: {lsun: {train: cat.zip}}}"
    assert list(resolved(text, tmp_path).sources) == ["train"]


def test_a_part_of_a_data_set_has_unknown_counts():
    assert resolved("{dataset: mnist_5k}").conversion.max_images is None
    part = resolved("{dataset: mnist_5k, conversion: {max_images: 300}, parzen: {n_test: 300}}")
    assert part.conversion.max_images == 300 and part.dataset.counts is None


@pytest.mark.parametrize(
    ("text", "name", "title"),
    [
        ("dataset: mnist", "mnist", "MNIST"),
        ("{dataset: mnist, name: null}", "mnist", "MNIST"),
        ("{dataset: mnist, name: digits-2}", "digits-2", "digits-2 (MNIST)"),
        ("{dataset: mnist, name: mnist}", "mnist", "MNIST"),
        ("{dataset: lsun, name: beds}", "beds", "beds (LSUN bedroom)"),
    ],
)
def test_the_name_of_a_data_set(text, name, title):
    config = resolved(text)
    assert (config.name, config.dataset.title) == (name, title)


@pytest.mark.parametrize(
    "name", ["a/b", "..", "-a", "a b", "Ä", "{x}", "a" * 61, "2", "svhn", "SVHN", "a\n"]
)
def test_a_name_that_is_none(name):
    text = f"{{dataset: mnist, name: {name if name == '2' else json.dumps(name)}}}"
    check_one_line(resolved, text, ["name is "])
