# The configuration, read and checked before any rule, and helpers of the rules.

import re
import sys
from dataclasses import asdict, is_dataclass
from functools import cache, partial, reduce
from pathlib import Path

import svae
from svae.config import memory, runtime
from svae.config.resolve import resolve
from svae.config.schema import posterior_classes
from svae.config.sweeps import several_weights
from svae.config.variants import options_without
from svae.config.yaml_file import check_file, config_file, replacement_note
from svae.datasets.catalogue import IMAGE_SUFFIXES
from svae.errors import UserError
from svae.features.pretrained import is_own, missing
from svae.jobs import limits
from svae.jobs.devices import no_gpu, visible_gpus
from svae.jobs.environment import check_python, settle
from svae.jobs.files import file_hash
from svae.jobs.fingerprint_cache import FingerprintCache
from svae.jobs.folders import folder_listing
from svae.jobs.neutral import without_neutral
from svae.scores.kept import kept_recipe, place, recipe
from svae.scores.registry import scores
from svae.scores.score import OPENED_BY

CLONE = folder_of_this_file().parent
# From an address, as of GitHub, rules come without the files around them; the package has these.
if not CLONE.is_dir():
    CLONE = Path(svae.__file__).parents[1]


settle()
try:
    check_python(sys.executable)
except UserError as error:
    sys.exit(f"Error: {error}")


for option, name, value in resources_named_like_functions():
    sys.exit(
        f"Error in {option}: {name}={value} names a function of Python, as which Snakemake reads it; "
        f"put quotes within: \"{name}='{value}'\""
    )


def or_stop(function, *arguments):
    """Call a function; a wrong configuration stops Snakemake with a message only."""
    try:
        return function(*arguments)
    except UserError as error:
        files = f" ({', '.join(map(str, config_files()))})" if config_files() else ""
        sys.exit(f"Error in the configuration{files}:\n{error}")


# A job has the configuration that it was submitted with, see `submit_with` below; to a module, the
# other workflow gives it.
CONFIG_FILE = None if within_a_job() or is_a_module() else or_stop(config_file, Path.cwd(), CLONE)

if CONFIG_FILE:

    configfile: CONFIG_FILE

    # Those of --configfile; the other is checked already.
    for path in map(Path, config_files()):
        if path.resolve() != CONFIG_FILE.resolve():
            or_stop(check_file, path)


def resolved(config, working):
    try:
        return resolve(config, working)
    except UserError as error:
        note = replacement_note(config, CONFIG_FILE, CLONE) if CONFIG_FILE else ""
        raise UserError(f"{error}{note}") from None


CONFIG = or_stop(resolved, config, Path.cwd())
READER = CONFIG.dataset.name
# In names of files and folders: that of the data set, or the user's.
DATASET = CONFIG.name
# Without the scores that their settings leave out.
SCORES = {name: score for name, score in scores().items() if score.used(CONFIG.scores[name])}
RUN = f"runs/{DATASET}/{{variant}}/seed-{{seed}}"
JOB = f"{DATASET}_{{variant}}_seed-{{seed}}"
# What jobs read of a run in addition to run.json. Only declared where each has files of its own, since
# Snakemake deletes the outputs of a job before it starts and when it fails: see the rule `train`.
WEIGHTS, HISTORY = (
    ({}, {})
    if files_are_shared()
    else ({"weights": f"{RUN}/final.weights.h5"}, {"history": f"{RUN}/history.jsonl"})
)
BASELINES = f"runs/{DATASET}/baselines"
SPECTRUM = f"{BASELINES}/spectrum.npz"
# Files of the data set that only single scores read, by the names of their rules.
FILES = {"features": f"{BASELINES}/features.npz"}
FETCHED = {source.name: source for source in CONFIG.sources.values() if source.path is None}


def in_place(path):
    """A file of the user's. Before a relative path, Snakemake puts the prefix of a module."""
    return str(Path(path).absolute()) if is_a_module() else path


# Where the files of the data set are, or will be after their download, by role.
RAW = {
    role: in_place(source.path) if source.path else f"data/raw/{READER}/{source.name}"
    for role, source in CONFIG.sources.items()
}
# A folder is not an input, because its time does not show changes inside; its listing does.
FOLDERS = {role: path for role, path in RAW.items() if Path(path).is_dir()}
if FOLDERS and not files_are_shared():
    sys.exit(
        f"Error: {', '.join(FOLDERS.values())} is a folder, which only this machine sees, since jobs do "
        "not share their files (--shared-fs-usage); give it as a zip or tar archive"
    )
# On a cluster, the GPUs of the submitting machine are irrelevant.
HERE = jobs_run_here()
if not (HERE or within_a_job() or is_a_module()):
    submit_with(config)
GPUS = visible_gpus() if HERE and CONFIG.device != "cpu" else []
ON_GPU = CONFIG.device == "gpu" or bool(GPUS)
# A cluster's GPUs are for trainings; what is measured there is measured on the CPU.
SCORES_ON_GPU = ON_GPU and HERE
# The short jobs of a run are one job of a cluster.
SHORT = None if HERE else "short"

# `--cores all` means those that a container grants, and jobs wait for memory as for cores.
if HERE:
    limit_cores(limits.cores())
    limit_resource("mem_mb", limits.memory_mb())

# On a machine with GPUs, one training takes one GPU; elsewhere there is no such limit.
if GPUS:
    limit_resource("gpu", len(GPUS))


wildcard_constraints:
    variant="|".join(map(re.escape, CONFIG.variants)),
    seed="|".join(map(str, CONFIG.seeds)),
    # Jobs make and delete only these files in the folder of downloaded files.
    file="|".join(map(re.escape, FETCHED)) or "(?!)",


def addresses(wildcards, threads):
    """Where and how to download a file. The argument `threads` is there only because Snakemake does
    not compare such params, so that a new mirror causes no second download."""
    source = FETCHED[wildcards.file]
    return {
        "urls": source.urls,
        "size": source.bytes,
        "by_hand": CONFIG.dataset.by_hand,
        **asdict(CONFIG.fetch),
    }


def to_verify(wildcards, threads):
    """What `verify` needs to know about the downloaded files, by role. Never makes an output stale,
    because a different file is an error or has a different checksum."""
    return {
        source.role: {
            "known_hash": source.known_hash,
            "size": source.bytes,
            "by_hand": CONFIG.dataset.by_hand,
        }
        for source in FETCHED.values()
    }


@cache
def listing(folder):
    """The state of the images in a folder. Only called for rules that read one: a folder may have
    millions of files, and every job reads the Snakefile again."""
    return or_stop(folder_listing, folder, IMAGE_SUFFIXES)


def listings_of_sources(wildcards):
    return {role: listing(path) for role, path in FOLDERS.items()}


def compared_settings(settings):
    """Settings for `params`, without those at their neutral values (svae.jobs.neutral)."""
    return without_neutral(asdict(settings), type(settings))


def training(wildcards):
    return compared_settings(CONFIG.variants[wildcards.variant])


FINGERPRINTS = FingerprintCache(Path(".snakemake/fingerprints.json"))
# Tables that are only looked up in: rules name their posterior, and code names its streams.
LOOKED_UP = ("svae.model.posteriors:POSTERIORS", "svae.streams:Stream")


@cache
def code(*entries, without=(), settings=()):
    """The fingerprint of the functions that a script calls and of the classes of their arguments.
    `settings`: those of the stage, as dataclasses."""
    values = {name: value for each in settings for name, value in asdict(each).items()}
    return FINGERPRINTS.fingerprint(*entries, without=(*without, *LOOKED_UP), settings=values)


def code_of_variant(*entries, without=(), settings=()):
    """The same for code that uses the model of a variant: covers only that variant's posterior."""

    def fingerprint_of(wildcards):
        variant = CONFIG.variants[wildcards.variant]
        posterior = f"svae.model.posteriors:{posterior_classes()[variant.posterior]}"
        return code(*entries, posterior, without=without, settings=(variant, *settings))

    return fingerprint_of


def share_of_cores():
    """The threads of a training under `threads: auto`: two trainings side by side are faster than one
    after the other on all cores. A training on a GPU has little use for threads."""
    if not HERE:
        return ON_A_CLUSTER
    trainings = len(CONFIG.variants) * len(CONFIG.seeds)
    if GPUS:
        return min(4, max(1, workflow.cores // min(trainings, len(GPUS))))
    return max(1, workflow.cores // trainings)


# What is not one machine is not divided: each job there has this many of its machine's cores.
ON_A_CLUSTER = 2
CONVERSION_ON_A_CLUSTER = 4


def number_of_threads(setting):
    return share_of_cores() if setting == "auto" else setting


def threads(wildcards):
    """Threads of a job for one variant, which are also the cores that Snakemake counts."""
    return number_of_threads(CONFIG.variants[wildcards.variant].threads)


def threads_of_data_set(wildcards):
    """Threads of a job that belongs to no variant."""
    return number_of_threads(CONFIG.threads)


def threads_of_scores(wildcards):
    """On a cluster, the scores of a run are one job, whose threads add up."""
    return threads(wildcards) if HERE else 1


def threads_of_conversion(wildcards):
    return workflow.cores if HERE else CONVERSION_ON_A_CLUSTER


def clone(wildcards, threads):
    """Never makes an output stale: a clone may be moved."""
    return str(CLONE)


def asked(amount):
    """A resource, from the configuration; a job that failed may ask for more (`--retries`)."""

    def of_attempt(wildcards, attempt):
        return attempt * amount(CONFIG)

    return of_attempt


def asked_mb(amount):
    """The same for memory; on a cluster, with that of the Snakemakes that run the job."""
    return asked(lambda config: amount(config) + (0 if HERE else memory.OF_SNAKEMAKE))


def asked_mb_of_store(amount):
    """The same, which is less once the store that the job reads is there."""

    def of_attempt(wildcards, input, attempt):
        return asked_mb(partial(amount, store=Path(input.data)))(wildcards, attempt)

    return of_attempt


def memory_of_conversion(wildcards, threads, attempt):
    return asked_mb(partial(memory.of_conversion, cores=threads))(wildcards, attempt)


def memory_of_training(wildcards, input, attempt):
    settings = CONFIG.variants[wildcards.variant]
    of_training = partial(memory.of_training, settings=settings)
    return asked_mb_of_store(of_training)(wildcards, input, attempt)


def runtime_of_training(wildcards, input, attempt):
    settings, store = CONFIG.variants[wildcards.variant], Path(input.data)
    of_training = partial(runtime.of_training, settings=settings, store=store)
    return asked(of_training)(wildcards, attempt)


def seed(wildcards):
    return int(wildcards.seed)


def services(wildcards, threads):
    """Settings that never make a training stale, because they do not affect the result."""
    return asdict(CONFIG.services)


def device(wildcards, threads):
    """Never makes an output stale: results of CPU and GPU differ only in the last digits."""
    return CONFIG.device


def device_of_scores(wildcards, threads):
    return CONFIG.device if HERE else "cpu"


def every(pattern):
    """One file per run, in the order of the configuration: by variant, then by seed."""
    return expand(pattern, variant=CONFIG.variants, seed=CONFIG.seeds)


def first(pattern):
    """One file per variant: that of its first seed, which the pictures show."""
    return expand(pattern, variant=CONFIG.variants, seed=CONFIG.seeds[0])


def compared(pattern):
    """The files of the runs in the comparison figure: of all seeds, or of the first."""
    return every(pattern) if CONFIG.figure.seeds == "all" else first(pattern)


def shown(path, category, caption=None, variant="all"):
    """An output shown by `snakemake --report`, with the caption of its name or of `caption`."""
    name = caption or Path(path).stem
    labels = {"shows": name.replace("_", " "), "variant": variant}
    return report(path, caption=f"captions/{name}.rst", category=category, labels=labels)


# Scores: what each needs, and the code and settings that measure it. One job measures many of a run.


# The name of a rule -> the scores that it measures.
JOBS_OF_SCORES = {name: [name] for name, score in SCORES.items() if score.alone}
JOBS_OF_SCORES["scores"] = [name for name in SCORES if name not in JOBS_OF_SCORES]


def measured_from(wildcards, names):
    """The files that scores need in addition to record and store."""
    files = {"samples": f"{RUN}/samples.h5", "spectrum": SPECTRUM, **FILES}
    files |= {"model": path for path in WEIGHTS.values()}
    needed = {need for name in names for need in (*SCORES[name].needs, *SCORES[name].files)}
    found = {name: path.format(**wildcards) for name, path in files.items() if name in needed}
    fitted = any("sampling" in SCORES[name].reads for name in names)
    return found | (prior_of(wildcards) if fitted else {})


def prior_of(wildcards):
    """The file from which samples take a fitted prior, or batch-norm statistics, if they do."""
    return {"prior": f"{RUN}/prior.h5".format(**wildcards)} if CONFIG.prior.needed else {}


def histories(wildcards):
    return {name: first(path) for name, path in HISTORY.items()}


def settings_of_score(name):
    settings = CONFIG.scores[name]
    return None if settings is None else compared_settings(settings)


def settings_it_reads(name):
    """The settings of other sections that a score reads, by their keys."""
    found = {key: reduce(getattr, key.split("."), CONFIG) for key in SCORES[name].reads}
    return {
        key: compared_settings(value) if is_dataclass(value) else value
        for key, value in found.items()
    }


def code_of_score(wildcards, name):
    """The fingerprint of one score's code, without the code that opens files for other scores."""
    score = SCORES[name]
    unneeded = tuple(module for need, module in OPENED_BY.items() if need not in score.needs)
    started = ["svae.jobs.devices:on_device"] if score.tensorflow else []
    measuring = ("svae.scores.measuring:measure", "svae.scores.measuring:Files")
    entries = (*score.entries, *measuring, *started)
    own = CONFIG.scores[name]
    read = (reduce(getattr, key.split("."), CONFIG) for key in score.reads)
    settings = tuple(each for each in (own, *read) if is_dataclass(each))
    if "model" in score.needs:
        return code_of_variant(*entries, without=unneeded, settings=settings)(wildcards)
    return code(*entries, without=unneeded, settings=settings)


def orders(wildcards, names):
    """All that decides how each score is measured, besides the files that it is measured from."""
    return {
        name: {
            "code": code_of_score(wildcards, name),
            "settings": settings_of_score(name),
            "reads": settings_it_reads(name),
        }
        for name in names
    }


def ordered_anew(wildcards, output, threads, names):
    """Those scores whose code or settings changed since they were measured, for the message.
    Never makes an output stale."""
    run = Path(output[0]).parents[1]
    new = [
        name
        for name, order in orders(wildcards, names).items()
        if kept_recipe(place(run, name)) != recipe(order)
    ]
    return ", ".join(new) or "what its files change"


def gpus_of_scores(wildcards, names):
    return int(SCORES_ON_GPU and any(SCORES[name].tensorflow for name in names))


def study(*names):
    """The files of all runs from which tables, page and charts are made, with these scores."""
    return {
        "records": every(f"{RUN}/run.json"),
        **{f"score_{name}": every(f"{RUN}/scores/{name}.json") for name in names},
        **{
            f"per_image_{name}": every(f"{RUN}/scores/{name}_per_image.npz")
            for name in names
            if SCORES[name].measures
        },
        "baselines": f"{BASELINES}/baselines.json",
    }


# The export, of the run of the first seed.


def run_to_export(path):
    """A file of the run that is exported: that of the variant's first seed."""

    def of_first_seed(wildcards):
        return path.format(variant=wildcards.variant, seed=CONFIG.seeds[0])

    return of_first_seed


def images_to_encode(wildcards):
    """The archive of images to encode; a folder is in the params, by its listing."""
    source = CONFIG.export.images
    return [] if source is None or Path(source).is_dir() else in_place(source)


def listing_of_images(wildcards):
    source = CONFIG.export.images
    return listing(source) if source is not None and Path(source).is_dir() else None
