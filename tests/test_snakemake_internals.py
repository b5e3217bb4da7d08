"""What the rules use of Snakemake beyond its documentation does in the installed version what
rules/snakemake_internals.smk says, and is used nowhere else."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from helpers.snakemakes import snakemake

CLONE = Path(__file__).parents[1]
INTERNALS = CLONE / "rules/snakemake_internals.smk"
DOCUMENTED = {"basedir", "cores"}

SNAKEFILE = f"""
import json

include: "{INTERNALS}"
configfile: "settings.yaml"

read = [str(path) for path in config_files()]
submit_with({{"key": [None, True, "text"]}})
submitted = workflow.spawned_job_args_factory.get_configfiles_arg()
inside = within_a_job()
as_module = is_a_module()
shared = files_are_shared()
asked = workflow.cores
limit_cores(1)
limit_resource("gpu", 2)
limit_resource("chosen", 2)
here = jobs_run_here()
beside = folder_of_this_file() == Path.cwd()
locked = locked_by_another()
functions = resources_named_like_functions()

onstart:
    with open("facts.json", "x") as file:
        json.dump(
            {{
                "config_files": read,
                "submit_with": submitted,
                "within_a_job": inside,
                "is_a_module": as_module,
                "files_are_shared": shared,
                "jobs_run_here": here,
                "folder_of_this_file": beside,
                "limit_cores": [asked, workflow.cores],
                "locked_by_another": locked,
                "resources_named_like_functions": functions,
                "any_job_uses": {{name: any_job_uses(name) for name in ("gpu", "other")}},
            }},
            file,
        )

rule all:
    output: "amounts"
    resources: gpu=5, chosen=5, partition="own"
    shell: "echo {{resources.gpu}} {{resources.chosen}} > {{output}}"

onerror:
    with open("faults.json", "w") as file:
        json.dump({{"killed": a_job_was_killed(log), "locked": locked}}, file)

rule killed:
    output: "killed"
    script: "killed.py"

rule another:
    output: "another"
    resources: other=1
    shell: "touch {{output}}"
"""

ENVIRONMENT = {**os.environ, "SNAKEMAKE_PROFILE": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a small workflow that called every function of the file."""
    folder = tmp_path_factory.mktemp("internals")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "settings.yaml").write_text("key: value\n")
    (folder / "killed.py").write_text("import os; os.kill(os.getpid(), 9)")
    options = ["--cores", "all", "--resources", "chosen=3"]
    options += ["--default-resources", "mem_mb=9", "partition=all", "account='any'", "qos=debug"]
    options += ["--set-resources", "killed:constraint=max", "killed:mem_mb=10*3"]
    done = snakemake(options, folder, ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.workflow
def test_faults(folder):
    (folder / "Snakefile").write_text(SNAKEFILE.replace("onstart:", "onsuccess:"))
    locks = folder / ".snakemake/locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("another file")
    done = snakemake(["--cores", "1", "killed"], folder, ENVIRONMENT)
    assert done.returncode == 1
    assert json.loads((folder / "faults.json").read_text()) == {"killed": True, "locked": True}
    (folder / "killed.py").write_text("raise ValueError")
    assert snakemake(["--cores", "1", "killed"], folder, ENVIRONMENT).returncode == 1
    assert json.loads((folder / "faults.json").read_text()) == {"killed": False, "locked": False}


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("function", "value"),
    [
        ("config_files", ["settings.yaml"]),
        ("jobs_run_here", True),
        ("within_a_job", False),
        ("is_a_module", False),
        ("files_are_shared", True),
        ("limit_cores", [len(os.sched_getaffinity(0)), 1]),
        ("folder_of_this_file", True),
        ("locked_by_another", False),
        ("any_job_uses", {"gpu": True, "other": False}),
        (
            "resources_named_like_functions",
            [
                ["--default-resources", "partition", "all"],
                ["--set-resources", "constraint", "max"],
            ],
        ),
    ],
)
def test_facts_of_the_workflow(folder, function, value):
    facts = json.loads((folder / "facts.json").read_text())
    if function == "config_files":
        facts[function] = [Path(path).name for path in facts[function]]
    assert facts[function] == value


@pytest.mark.workflow
def test_jobs_are_submitted_with_the_configuration(folder):
    facts = json.loads((folder / "facts.json").read_text())
    option, path = facts["submit_with"].split()
    assert option == "--configfiles"
    assert yaml.safe_load(Path(path.strip("'")).read_text()) == {"key": [None, True, "text"]}


@pytest.mark.workflow
def test_a_limit_applies_unless_the_user_gave_another(folder):
    assert (folder / "amounts").read_text().split() == ["2", "3"]


def test_every_function_is_called_above():
    for function in re.findall(r"^def (\w+)", INTERNALS.read_text(), re.M):
        assert f"{function}(" in SNAKEFILE


@pytest.mark.parametrize("path", [CLONE / "Snakefile", *(CLONE / "rules").glob("*.smk")], ids=str)
def test_internals_are_used_in_one_file_only(path):
    used = set(re.findall(r"\bworkflow\.(\w+)", path.read_text()))
    assert path == INTERNALS or used <= DOCUMENTED
    imported = re.findall(r"^ *(?:from|import) (snakemake\S*)", path.read_text(), re.M)
    assert set(imported) <= {"snakemake.utils"}
