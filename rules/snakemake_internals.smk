# All undocumented parts of Snakemake that the rules use. A new version may change any of them; a test
# of that name in tests/test_snakemake_internals.py then fails.
#
# One undocumented behaviour is used where the rules define their params: a function that takes
# `threads` gives a parameter that makes no output stale. tests/test_workflow_runs.py tests it.

import builtins
import hashlib
import os
from pathlib import Path

import yaml

from svae.jobs.files import replacing


def folder_of_this_file():
    """The folder of the Snakefile that calls this, which `workflow.basedir` is not in a module."""
    return Path(workflow.current_basedir.get_path_or_uri(secret_free=True))


def config_files():
    """Paths of the files from which the configuration is read."""
    return workflow.configfiles


def jobs_run_here():
    """False if jobs are submitted to other machines, and within such a job."""
    return workflow.resource_settings.nodes is None and not workflow.remote_exec


def within_a_job():
    """Whether this Snakemake runs a job that another one submitted."""
    return workflow.exec_mode.name != "DEFAULT"


def files_are_shared():
    """Whether all jobs see the files of the others, and not only the inputs that they declare."""
    usage = workflow.storage_settings.shared_fs_usage
    return "INPUT_OUTPUT" in {each.name for each in usage}


def is_a_module():
    """Whether another workflow uses this one, and gives it the configuration."""
    return workflow.modifier.skip_configfile


def submit_with(config):
    """Have the jobs that are submitted read this configuration, whatever becomes of its files. The
    name of the file depends on its content: jobs of an earlier Snakemake may still be queued."""
    text = yaml.safe_dump(config, sort_keys=False)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    file = Path(f".snakemake/configurations/{name}.yaml")
    if not file.exists():  # a job may be reading it
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    workflow.configfiles.append(file)
    workflow.config_settings.configfiles = [file.absolute()]
    workflow.config_settings.config_args = []


def limit_resource(name, amount):
    """Do the same as `--resources NAME=AMOUNT`, unless the user gave that option."""
    if name not in workflow.global_resources:
        workflow.register_resource(name, amount)


def resources_named_like_functions():
    """Values of --default-resources and --set-resources, such as a partition `all`, which Snakemake
    evaluates as Python and takes for functions: (option, resource, value)."""
    given = [("--default-resources", workflow.resource_settings._parsed_default_resources)]
    for mapping in workflow.resource_settings.overwrite_resources.values():
        given.append(("--set-resources", mapping))
    return [
        (option, name, resource.raw)
        for option, resources in given
        for name, resource in dict(resources or {}).items()
        if callable(getattr(builtins, str(getattr(resource, "raw", None)), None))
    ]


def limit_cores(most):
    """Take no more than `most`, unless the user gave a number that is not that of the machine."""
    if workflow.global_resources["_cores"].value == len(os.sched_getaffinity(0)) > most:
        workflow.global_resources["_cores"] = most


def locked_by_another():
    """Whether another Snakemake works in this folder, or was killed there."""
    first = workflow.exec_mode.name == "DEFAULT"  # not within a job of this one
    return first and any(Path(".snakemake/locks").glob("*.lock"))


def a_job_was_killed(log):
    """Whether a job of this machine ended by SIGKILL; `log`: that of `onerror`, a path or several."""
    paths = [log] if isinstance(log, str) else log
    return any("SIGKILL" in Path(path).read_text(errors="replace") for path in paths)


def any_job_uses(resource):
    """Whether a job that is due uses a resource; known from `onstart` on."""
    return any(resource in job.rule.resources for job in workflow.dag.needrun_jobs())
