# The configuration, read and checked before any rule, and the helpers of the rules.

import sys
import yaml
from pathlib import Path

from snakemake.exceptions import WorkflowError

from svae import config as configuration
from svae.devices import visible_gpus
from svae.errors import UserError
from svae.fingerprint import fingerprint

CLONE = Path(workflow.basedir)


def or_stop(function, *arguments):
    """Call a function; a wrong configuration stops Snakemake with its message alone."""
    try:
        return function(*arguments)
    except UserError as error:
        files = f" ({', '.join(map(str, workflow.configfiles))})" if workflow.configfiles else ""
        sys.exit(f"Error in the configuration{files}:\n{error}")


configfile: or_stop(configuration.config_file, Path.cwd(), CLONE)


SCHEMA = yaml.safe_load((CLONE / "rules/schemas/config.schema.yaml").read_text())
CONFIG = or_stop(configuration.resolve, config, SCHEMA, Path.cwd())
DATASET = CONFIG.dataset.name
RUN = f"runs/{DATASET}/{{variant}}/seed-{CONFIG.seed}"
GPUS = visible_gpus()

# On a machine with GPUs one training takes one; elsewhere nothing is serialised.
if GPUS and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", len(GPUS))


wildcard_constraints:
    variant="|".join(CONFIG.variants),


def source_files():
    """Where the files of the data set are, or will be once they are fetched."""
    return {
        role: f"data/raw/{DATASET}/{source.name}" if source.remote else source.location
        for role, source in CONFIG.sources.items()
    }


def fetched(name):
    """The address behind a fetched file, and the checksum that it must have."""
    for file in CONFIG.dataset.files:
        source = CONFIG.sources[file.role]
        if source.remote and source.name == name:
            known = f"sha256:{source.sha256}" if source.sha256 else file.known_hash
            return {"url": source.location, "known_hash": known}
    raise WorkflowError(f"no source of {DATASET} is called {name}")


def training(wildcards):
    return configuration.as_params(CONFIG.variants[wildcards.variant])


def every(pattern):
    """One file a variant, in the order of the configuration."""
    return expand(pattern, variant=CONFIG.variants)
