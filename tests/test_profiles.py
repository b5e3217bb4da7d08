"""The profiles have only options that the installed Snakemake knows, and only what they should."""

import pytest
import yaml
from helpers.workflow import CLONE

PROFILES = {path.parent.name: path for path in (CLONE / "profiles").glob("*/config.yaml")}
# The options of an executor are known where its plugin is installed.
MARKS = {"slurm": [pytest.mark.slurm]}


def parsed(folder):
    """What Snakemake makes of the profile in a folder."""
    from snakemake.cli import parse_args

    _, options = parse_args(["--workflow-profile", str(folder)])
    return options


def with_examples(text):
    """The profile with the settings that it shows as comments."""
    return "".join(
        line.removeprefix("# ") if line.startswith("# ") and ": " in line else line
        for line in text.splitlines(keepends=True)
        if not line.startswith("# ") or line[2:].partition(":")[0].replace("-", "").isalpha()
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS.get(name, ())) for name in PROFILES]
)
@pytest.mark.parametrize("change", [str, with_examples])
def test_options_are_known(name, change, tmp_path):
    text = change(PROFILES[name].read_text())
    (tmp_path / "config.yaml").write_text(text)
    options = parsed(tmp_path)
    for option in yaml.safe_load(text):
        known = hasattr(options, option.replace("-", "_"))
        assert known or option in ("__use_yte__", "__definitions__"), option


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_the_checks_of_the_default(name):
    checks = [
        yaml.safe_load(PROFILES[each].read_text())["__definitions__"] for each in (name, "default")
    ]
    assert checks[0] == checks[1]


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("default", "cores", "all"),
        ("gpu", "cores", "all"),
        ("gpu", "config", ["device=gpu"]),
        ("slurm", "executor", "slurm"),
        # Of the site: its own profile has them, and one replaces those of another.
        ("slurm", "default-resources", None),
        ("slurm", "set-resources", None),
        # The processors of the submitting machine are no limit for the others.
        ("slurm", "cores", None),
    ],
)
def test_a_profile_has(name, option, value):
    assert yaml.safe_load(PROFILES[name].read_text()).get(option) == value
