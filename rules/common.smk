# The configuration, read and checked before any rule, and the helpers of the rules.

import re
import sys
from dataclasses import asdict
from pathlib import Path

import yaml

from svae import config as configuration
from svae.devices import visible_gpus
from svae.errors import UserError
from svae.fingerprint import fingerprint

# Snakemake imports pandas, where it is installed, to look for tables among the params of a rule,
# which costs more than all that this file does; there are none.
sys.modules.setdefault("pandas", None)

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
JOB = f"{DATASET}_{{variant}}_seed-{CONFIG.seed}"
FETCHED = {source.name: source for source in CONFIG.sources.values() if source.remote}
GPUS = visible_gpus()

# On a machine with GPUs one training takes one; elsewhere nothing is serialised.
if GPUS and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", len(GPUS))


wildcard_constraints:
    variant="|".join(CONFIG.variants),
    # Nothing else in the folder of fetched files is ours to make or to delete.
    file="|".join(map(re.escape, FETCHED)) or "(?!)",


def source_files():
    """Where the files of the data set are, or will be once they are fetched."""
    return {
        role: f"data/raw/{DATASET}/{source.name}" if source.remote else source.location
        for role, source in CONFIG.sources.items()
    }


def fetched(wildcards):
    """The address behind a fetched file, and the checksum that it must have: the one in the
    configuration, or that of the official file of this name."""
    source = FETCHED[wildcards.file]
    (file,) = (file for file in CONFIG.dataset.files if file.role == source.role)
    official = {known.name: known.known_hash for known in (*file.alternatives, file)}
    known = official.get(source.name, file.known_hash)
    return {
        "url": source.location,
        "known_hash": f"sha256:{source.sha256}" if source.sha256 else known,
    }


def training(wildcards):
    return asdict(CONFIG.variants[wildcards.variant])


def every(pattern):
    """One file a variant, in the order of the configuration."""
    return expand(pattern, variant=CONFIG.variants)
