"""The configuration through Snakemake: its command line, its files, and what it prints."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from helpers import snakemakes
from helpers.refusals import check_one_line
from helpers.workflow import CLONE
from test_config import MINIMAL, WRONG
from test_config_file import BAD_FILES

from svae.config.command_line import check_command_line

HEADER = "Error in the configuration"
OWN_LINES = re.compile(
    r"^(Using workflow specific profile|Config file .* is extended by) .*\n", re.M
)
# Cases that Snakemake itself might handle wrongly; test_config.py has the messages.
THROUGH_SNAKEMAKE = [
    "unknown data set",
    "typo of a key",
    "boolean",
    "nan",
    "empty section",
    "no variants",
    "variant with a dash",
    "variant called on",
    "number as a key",
    "null as a key",
    "weights in a circle",
]


def snakemake(folder, *arguments):
    """A dry run of the clone in a working directory; returns the exit code and the output."""
    done = snakemakes.snakemake(dry_run(folder, *arguments), folder, os.environ)
    return done.returncode, done.stdout + done.stderr


def dry_run(folder, *arguments):
    return ["-n", "-s", CLONE / "Snakefile", "--directory", folder, *arguments]


def check_message(code, text, expected):
    assert code != 0
    assert "Traceback" not in text
    lines = OWN_LINES.sub("", text).strip().splitlines()
    assert lines[0].startswith(HEADER), text
    assert 2 <= len(lines) <= 5, text
    for part in expected:
        assert part in text


@pytest.mark.workflow
@pytest.mark.parametrize("name", THROUGH_SNAKEMAKE)
def test_snakemake_stops_with_one_message(name, tmp_path):
    text, expected = WRONG[name]
    content = {**MINIMAL, **yaml.safe_load(text)}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    code, output = snakemake(tmp_path)
    check_message(code, output, [*expected, str(path)])
    assert not (tmp_path / "runs").exists()


@pytest.mark.workflow
@pytest.mark.parametrize("name", ["empty", "list", "tab", "duplicate", "binary", "huge", "circle"])
def test_snakemake_stops_at_a_file_without_a_configuration(name, tmp_path):
    content, expected = BAD_FILES[name]
    (tmp_path / "config.yaml").write_bytes(content)
    check_message(*snakemake(tmp_path), expected)


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["training={epochs: -5}"], ["training.epochs is -5;", "number from 1 to"]),
        (["training={epochs: 5, learning_rate: fast}"], ["training.learning_rate is 'fast'"]),
        (["epochs=5"], ["unknown key epochs", "did you mean training.epochs?"]),
        (["variants=mvn"], ["variants is 'mvn'", "a mapping"]),
        (["training="], ["training is empty"]),
        (
            ["variants={low_rank: false}"],
            ["variants.vanilla_matched.kl_weight is 'low_rank'", "(vanilla, naive, mvn)"],
        ),
    ],
)
def test_snakemake_stops_at_a_wrong_command_line(arguments, expected, tmp_path):
    check_message(*snakemake(tmp_path, "--config", *arguments), expected)


@pytest.mark.workflow
@pytest.mark.parametrize("option", ["--default-resources", "--set-resources"])
def test_snakemake_stops_at_a_partition_named_like_a_function(option, tmp_path):
    resource = "slurm_partition=all"
    code, output = snakemake(
        tmp_path, option, f"train:{resource}" if option == "--set-resources" else resource
    )
    (line,) = OWN_LINES.sub("", output).strip().splitlines()
    assert code == 1 and line.startswith(f"Error in {option}: {resource}")
    assert line.endswith("\"slurm_partition='all'\"")


@pytest.mark.workflow
def test_a_forked_snakemake_does_the_same_as_the_command(tmp_path):
    (tmp_path / "config.yaml").write_text("dataset: coco")
    arguments = dry_run(tmp_path)
    command = [sys.executable, "-m", "snakemake", *arguments]
    started = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    forked = snakemakes.snakemake(arguments, tmp_path, os.environ)
    assert "dataset is 'coco'" in started.stderr and started.returncode == 1
    for part in ("returncode", "stdout", "stderr"):
        assert getattr(forked, part) == getattr(started, part)


def planned_runs(code, text):
    assert code == 0, text
    return set(re.findall(r"runs/(\S+?)/run\.json", text))


SHIPPED = ["vanilla", "naive", "mvn", "low_rank", "vanilla_matched"]


@pytest.mark.workflow
def test_a_folder_without_a_configuration_uses_that_of_the_clone(tmp_path):
    runs = planned_runs(*snakemake(tmp_path))
    assert runs == {f"mnist_5k/{name}/seed-0" for name in SHIPPED}


@pytest.mark.workflow
def test_a_configuration_in_the_working_directory_is_used(tmp_path):
    (tmp_path / "own.tar.gz").touch()
    content = {**MINIMAL, "dataset": "cifar10", "seeds": [7]}
    content["sources"] = {"cifar10": {"archive": "own.tar.gz"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert planned_runs(*snakemake(tmp_path)) == {"cifar10/mvn/seed-7"}


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"model:\n  dropout: 0\n  dropout: 0\n", "other.yaml, line 3: duplicate key dropout"),
        (b'{"seeds": [1], "seeds": [2]}', "other.yaml, line 1: duplicate key seeds"),
        (b"name: caf\xe9\n", "other.yaml is not UTF-8 text"),
    ],
)
def test_snakemake_stops_before_it_reads_a_wrong_second_file(content, expected, tmp_path):
    (tmp_path / "fine.yaml").write_text("seeds: [3]\n")
    (tmp_path / "other.yaml").write_bytes(content)
    code, text = snakemake(tmp_path, "--configfile", "fine.yaml", "other.yaml")
    assert code and len(OWN_LINES.sub("", text).strip().splitlines()) == 1, text
    assert f"Error: {expected}" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--configfile", "/dev/null"], ["/dev/null is not a regular file"]),
        (["--configfiles", "."], [". is not a regular file"]),
        (["--configfile=none.yaml"], ["none.yaml cannot be read (No such file or directory)"]),
        (["--configfile", "a.yaml", "-n", "--configfile", "b.yaml"], ["2 times", "only the last"]),
        (["-C", "seeds=[1]", "--config", "name=b"], ["--config is given 2 times"]),
        (["--config", "seeds=[1]", "seeds=[2]"], ["duplicate key seeds"]),
        (["--config", "training={epochs: 5, epochs: 6}"], ["--config training, line 1: duplicate"]),
        (["--config", "model={}", "variants={a: {d: 1, d: 2}}"], ["--config variants", "key d"]),
        (["--config", "training.epochs=5"], ["'training.epochs=5'", "'training={epochs: 5}'"]),
        (["--config", "name=b", "all"], ["--config has 'all'", "before --config"]),
        (["--config", "=5"], ["--config has '=5'"]),
    ],
)
def test_what_snakemake_would_drop_or_not_read_is_one_line(arguments, expected):
    check_one_line(check_command_line, arguments, expected)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-n", "all", "--config", "a1=1", "training={epochs: 5, kl_weight: 1}", "b1=[{", "c1="],
        ["-C", "name=it's: {a, b", "--configfile", str(CLONE / "config.yaml"), "--", "all"],
        ["--config", "--configfile", str(CLONE / "config.yaml"), "-s", "Snakefile", "--unknown=2"],
    ],
)
def test_a_command_line_that_snakemake_reads_whole(arguments):
    check_command_line(arguments)


@pytest.mark.workflow
def test_the_command_line_takes_precedence_over_files(tmp_path):
    (tmp_path / "other.yaml").write_text(
        "{seeds: [3, 5], variants: {naive: false, "
        "vanilla_wide: {posterior: vanilla, latent_maps: 576}}}\n"
    )
    code, text = snakemake(
        *(tmp_path, "--configfile", "other.yaml", "--config", "dataset=cifar10"),
        *("training={epochs: 5, kl_weight: 2.5}", "variants={mvn: false, low_rank: {epochs: 3}}"),
    )
    names = ["vanilla", "low_rank", "vanilla_matched", "vanilla_wide"]
    assert planned_runs(code, text) == {
        f"cifar10/{name}/seed-{seed}" for name in names for seed in (3, 5)
    }
