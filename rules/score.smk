def measured_from(wildcards):
    """The files that a score needs besides record and store."""
    files = {"samples": f"{RUN}/samples.h5", "spectrum": SPECTRUM}
    needed = SCORES[wildcards.score].needs
    return {name: path.format(**wildcards) for name, path in files.items() if name in needed}


def settings_of_score(wildcards):
    settings = CONFIG.scores[wildcards.score]
    return None if settings is None else compared_settings(settings)


def settings_it_reads(wildcards):
    """Those of other sections, by their keys."""
    found = {key: reduce(getattr, key.split("."), CONFIG) for key in SCORES[wildcards.score].reads}
    return {key: asdict(value) if is_dataclass(value) else value for key, value in found.items()}


def code_of_score(wildcards):
    """What measures one score, without what opens things that only others need."""
    score = SCORES[wildcards.score]
    unneeded = tuple(module for need, module in OPENED_BY.items() if need not in score.needs)
    started = ["svae.jobs.devices:on_device"] if score.tensorflow else []
    entries = (*score.entries, "svae.scores.measuring:measure", *started)
    own = CONFIG.scores[wildcards.score]
    settings = () if own is None else (own,)
    if "model" in score.needs:
        return code_of_variant(*entries, without=unneeded, settings=settings)(wildcards)
    return code(*entries, without=unneeded, settings=settings)


def cores_of_score(wildcards):
    return cores(wildcards) if SCORES[wildcards.score].tensorflow else threads(wildcards)


def gpus_of_score(wildcards):
    return int(ON_GPU and SCORES[wildcards.score].tensorflow)


# Any score of any run: svae/scores/measures/ has a module for each.
rule score:
    input:
        unpack(measured_from),
        data=f"data/{DATASET}.h5",
        record=f"{RUN}/run.json",
    output:
        score=f"{RUN}/scores/{{score}}.json",
        per_image=f"{RUN}/scores/{{score}}_per_image.npz",
    log:
        f"logs/{{score}}_{JOB}.log",
    benchmark:
        f"benchmarks/out/{{score}}_{JOB}.tsv"
    threads: cores_of_score
    resources:
        gpu=gpus_of_score,
    params:
        settings=settings_of_score,
        reads=settings_it_reads,
        device=device,
        threads=threads,
        code=code_of_score,
    message:
        "Measuring {wildcards.score} of {wildcards.variant}"
    script:
        "../scripts/score.py"


# Scores stay with their runs, so that changing the data set and back costs only a copy.
rule result:
    input:
        lambda wildcards: expand(
            f"{RUN}/scores/parzen.json", seed=CONFIG.seeds, variant=wildcards.variant
        ),
    output:
        shown("results/parzen_{variant}.json", "Scores", "parzen", variant="{variant}"),
    log:
        "logs/result_{variant}.log",
    params:
        code=code("svae.report.seeds:combine"),
    message:
        "Writing {output}"
    script:
        "../scripts/result.py"


# Reconstructions, interpolations and neighbours: the pictures of one run.
rule examples:
    input:
        data=f"data/{DATASET}.h5",
        record=f"{RUN}/run.json",
        samples=f"{RUN}/samples.h5",
    output:
        f"{RUN}/pictures.h5",
    log:
        f"logs/examples_{JOB}.log",
    threads: cores
    resources:
        gpu=1 if ON_GPU else 0,
    params:
        device=device,
        threads=threads,
        code=code_of_variant("svae.sampling.examples:write", "svae.jobs.devices:on_device"),
    message:
        "Making pictures of {wildcards.variant}"
    script:
        "../scripts/examples.py"


# Scores without a network: training images, centroids, blur and a Gaussian instead of samples.
rule baselines:
    input:
        data=f"data/{DATASET}.h5",
    output:
        scores=f"{BASELINES}/baselines.json",
    log:
        f"logs/baselines_{DATASET}.log",
    benchmark:
        f"benchmarks/out/baselines_{DATASET}.tsv"
    threads: 1 if ON_GPU else CONFIG.threads
    resources:
        gpu=1 if ON_GPU else 0,
    params:
        settings=compared_settings(CONFIG.parzen),
        n_samples=CONFIG.sampling.n_samples,
        seed=CONFIG.seeds[0],
        device=device,
        threads=CONFIG.threads,
        code=code(
            "svae.scores.sanity_rows:baselines",
            "svae.settings.parzen:ParzenSettings",
            "svae.jobs.devices:on_device",
            settings=(CONFIG.parzen,),
        ),
    message:
        "Scoring sanity rows"
    script:
        "../scripts/baselines.py"
