# The configuration, read and checked before any rule, and the helpers of the rules.

import re
import sys
from dataclasses import asdict, is_dataclass
from functools import reduce
from pathlib import Path

from svae.config.resolve import resolve
from svae.config.yaml_file import config_file
from svae.jobs.devices import no_gpu, visible_gpus
from svae.errors import UserError
from svae.jobs.files import file_hash, folder_listing
from svae.jobs.fingerprint import fingerprint
from svae.scores.registry import scores
from svae.scores.score import OPENED_BY

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


configfile: or_stop(config_file, Path.cwd(), CLONE)


CONFIG = or_stop(resolve, config, Path.cwd())
DATASET = CONFIG.dataset.name
SCORES = scores()
RUN = f"runs/{DATASET}/{{variant}}/seed-{{seed}}"
JOB = f"{DATASET}_{{variant}}_seed-{{seed}}"
BASELINES = f"runs/{DATASET}/baselines"
SPECTRUM = f"{BASELINES}/spectrum.npz"
FETCHED = {source.name: source for source in CONFIG.sources.values() if source.path is None}
# Where the files of the data set are, or will be once they are fetched, by role.
RAW = {
    role: source.path or f"data/raw/{DATASET}/{source.name}"
    for role, source in CONFIG.sources.items()
}
# A folder is no input, since its own time does not tell what happens inside; its listing does.
LISTINGS = {role: folder_listing(path) for role, path in RAW.items() if Path(path).is_dir()}
# On a cluster the GPUs of the machine that submits the jobs mean nothing.
HERE = workflow.resource_settings.nodes is None and not workflow.remote_exec
GPUS = visible_gpus() if HERE and CONFIG.device != "cpu" else []
ON_GPU = CONFIG.device == "gpu" or bool(GPUS)

# On a machine with GPUs one training takes one; elsewhere nothing is serialised.
if GPUS and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", len(GPUS))


wildcard_constraints:
    variant="|".join(CONFIG.variants),
    seed="|".join(map(str, CONFIG.seeds)),
    score="|".join(SCORES),
    # Nothing else in the folder of fetched files is ours to make or to delete.
    file="|".join(map(re.escape, FETCHED)) or "(?!)",


def addresses(wildcards, threads):
    """Where to fetch a file, and how. It asks for the threads only because Snakemake leaves such
    parameters out of what makes a file stale: nothing is fetched twice for a new mirror."""
    source = FETCHED[wildcards.file]
    return {
        "urls": source.urls,
        "size": source.bytes,
        "by_hand": CONFIG.dataset.by_hand,
        **asdict(CONFIG.fetch),
    }


def to_verify(wildcards, threads):
    """What `verify` is told of the fetched files, by role; not stale by it either, since another
    file is an error or has another checksum."""
    return {
        source.role: {
            "known_hash": source.known_hash,
            "size": source.bytes,
            "by_hand": CONFIG.dataset.by_hand,
        }
        for source in FETCHED.values()
    }


def training(wildcards):
    return asdict(CONFIG.variants[wildcards.variant])


def threads(wildcards):
    """TensorFlow threads of a job of one variant."""
    return CONFIG.variants[wildcards.variant].threads


def cores(wildcards):
    """What Snakemake counts for such a job."""
    return 1 if ON_GPU else threads(wildcards)


def seed(wildcards):
    return int(wildcards.seed)


def services(wildcards, threads):
    """What makes no training stale, since it decides nothing of the result."""
    return asdict(CONFIG.services)


def threads_of_spectrum(wildcards, threads):
    """Nor does this: another number changes last digits of what runs are compared with."""
    return CONFIG.threads


def device(wildcards, threads):
    """Nor does this: results of a CPU and of a GPU differ in last digits alone."""
    return CONFIG.device


def every(pattern):
    """One file a run, in the order of the configuration: variant by variant, all seeds of each."""
    return expand(pattern, variant=CONFIG.variants, seed=CONFIG.seeds)


def first(pattern):
    """One file a variant: that of its first seed, which the pictures show."""
    return expand(pattern, variant=CONFIG.variants, seed=CONFIG.seeds[0])


def compared(pattern):
    """The files of the runs that the comparison figure shows: of all seeds, or of the first."""
    return every(pattern) if CONFIG.figure.seeds == "all" else first(pattern)


def shown(path, category, caption=None):
    """An output that `snakemake --report` shows, with the caption of its name or of `caption`."""
    return report(path, caption=f"captions/{caption or Path(path).stem}.rst", category=category)
