"""The file of the configuration: what is no configuration, and which file is used."""

import pytest
from helpers.refusals import check_one_line
from helpers.workflow import CLONE
from test_config import MINIMAL

from svae.config.command_line import check_command_line
from svae.config.yaml_file import config_file, replacement_note
from svae.errors import UserError

BAD_FILES = {
    "empty": (b"", ["config.yaml is empty", "write settings"]),
    "comments": (b"# dataset: mnist_5k\n", ["config.yaml is empty"]),
    "list": (b"- dataset: mnist_5k\n", ["config.yaml contains a list", "KEY: VALUE"]),
    "text": (b"dataset=mnist_5k\n", ["config.yaml contains 'dataset=mnist_5k'", "KEY: VALUE"]),
    "number": (b"5\n", ["config.yaml contains 5", "KEY: VALUE"]),
    "tab": (b"training:\n\tepochs: 5\n", ["config.yaml, line 2", "indent with spaces"]),
    "syntax": (b"dataset: mnist_5k\nmodel: {latent_maps: 4\n", ["config.yaml, line 3", "correct"]),
    "duplicate": (
        b"seed: 1\ndataset: mnist_5k\nseed: 2\n",
        ["line 3: duplicate key seed", "remove one"],
    ),
    "duplicate within": (
        b"model:\n  dropout: 0\n  dropout: 0\n",
        ["line 3: duplicate key dropout"],
    ),
    "unhashable": (b"[a, b]: 3\n", ["config.yaml, line 1", "unhashable key"]),
    "tag": (b"seed: !!python/name:os.system\n", ["config.yaml, line 1", "could not determine"]),
    "binary": (bytes(range(256)), ["config.yaml is not UTF-8 text", "save it"]),
    "zeros": (b"seed: 1\0\n", ["config.yaml is not YAML", "special characters"]),
    "no such date": (b"seed: 2026-13-41\n", ["config.yaml is not YAML", "month"]),
    "huge": (b"seed: 0x" + 9999 * b"f", ["config.yaml, ", "thousands of digits"]),
    "nested": (9999 * b"[", ["config.yaml is not YAML", "recursion"]),
    "circle": (b"model: &m {model: *m}\n", ["alias", "write the value itself"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_without_a_configuration(name, tmp_path):
    content, expected = BAD_FILES[name]
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        config_file(tmp_path, CLONE)
    assert "\n" not in str(caught.value)
    for part in expected:
        assert part in str(caught.value)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(UserError, match=r"config\.yaml is not a regular file"):
        config_file(tmp_path, CLONE)


def test_the_working_directory_takes_precedence_over_the_clone(tmp_path):
    working, clone = tmp_path / "working", tmp_path / "clone"
    for folder in (working, clone):
        folder.mkdir()
    with pytest.raises(UserError, match="restore it with: git checkout"):
        config_file(working, clone)
    for folder in (clone, working):
        (folder / "config.yaml").write_text("{dataset: mnist_5k, same: {seed: 1}, seed: 2}")
        assert config_file(working, clone) == folder / "config.yaml"


def test_merge_keys_are_not_duplicates(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("model: &a {dropout: 0, latent_maps: 2}\nother: {<<: *a, dropout: 1}\n")
    assert config_file(tmp_path, CLONE) == path


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_second_file_is_read_by_the_rules_of_the_first(name, tmp_path):
    content, expected = BAD_FILES[name]
    (tmp_path / "config.yaml").write_bytes(content)
    arguments = ["-n", "--configfile", str(tmp_path / "config.yaml"), "--cores", "2"]
    check_one_line(check_command_line, arguments, expected)


@pytest.mark.parametrize(
    ("content", "noted"),
    {
        "only settings": ({"training": {"epochs": 2}}, True),
        "no variants": ({"dataset": "mnist_5k"}, True),
        "no data set": ({"variants": MINIMAL["variants"]}, True),
        "an override of a variant": ({**MINIMAL, "variants": {"mvn": {"epochs": 3}}}, True),
        "complete": ({**MINIMAL, "training": {"epochs": 0}}, False),
        "a removed variant": ({**MINIMAL, "variants": {"mvn": False}}, False),
    }.values(),
)
def test_a_file_that_lacks_keys_is_said_to_replace_the_clones(content, noted, tmp_path):
    note = replacement_note(content, tmp_path / "config.yaml", CLONE)
    assert (
        "snakemake --configfile NAME.yaml" in note and f"{tmp_path}/config.yaml" in note
    ) == noted
    assert replacement_note(content, CLONE / "config.yaml", CLONE) == ""
