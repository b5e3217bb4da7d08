# The rules `parzen` and `scores`: svae/scores/measures/ has a module for each score. A score that was
# measured of these files by the same code and settings is kept in the run's folder, and only written
# again (svae.scores.kept): a new score, or an edit of one, measures no other.
for JOB_OF_SCORES, NAMES in JOBS_OF_SCORES.items():

    rule:
        name:
            JOB_OF_SCORES
        input:
            unpack(partial(measured_from, names=NAMES)),
            data=f"data/{DATASET}.h5",
            record=f"{RUN}/run.json",
        output:
            **{name: f"{RUN}/scores/{name}.json" for name in NAMES},
            **{f"{name}_per_image": f"{RUN}/scores/{name}_per_image.npz" for name in NAMES},
        log:
            f"logs/{JOB_OF_SCORES}_{JOB}.log",
        benchmark:
            f"benchmarks/out/{JOB_OF_SCORES}_{JOB}.tsv"
        group:
            SHORT
        threads: threads_of_scores
        resources:
            gpu=partial(gpus_of_scores, names=NAMES),
            mem_mb=(
                asked_mb(memory.of_parzen)
                if NAMES == ["parzen"]
                else asked_mb_of_store(memory.of_scores)
            ),
            runtime=asked(runtime.of_scores),
        params:
            orders=partial(orders, names=NAMES),
            ordered_anew=partial(ordered_anew, names=NAMES),
            device=device_of_scores,
        message:
            "Measuring {params.ordered_anew} of {wildcards.variant}"
        script:
            "../scripts/score.py"


# Scores stay with their runs: changing the data set and changing it back costs only a copy.
rule result:
    input:
        lambda wildcards: expand(
            f"{RUN}/scores/parzen.json", seed=CONFIG.seeds, variant=wildcards.variant
        ),
    output:
        shown("results/parzen_{variant}.json", "Scores", "parzen", variant="{variant}"),
    log:
        "logs/result_{variant}.log",
    localrule: True
    params:
        code=code("svae.report.seeds:combine"),
    message:
        "Writing {output}"
    script:
        "../scripts/result.py"


# Reconstructions, interpolations and neighbours: the pictures of one run.
rule examples:
    input:
        **WEIGHTS,
        data=f"data/{DATASET}.h5",
        record=f"{RUN}/run.json",
        samples=f"{RUN}/samples.h5",
    output:
        f"{RUN}/pictures.h5",
    log:
        f"logs/examples_{JOB}.log",
    group:
        SHORT
    threads: threads_of_scores
    resources:
        gpu=int(SCORES_ON_GPU),
        mem_mb=asked_mb(memory.of_samples),
        runtime=asked(runtime.of_samples),
    params:
        device=device_of_scores,
        code=code_of_variant("svae.sampling.examples:write", "svae.jobs.devices:on_device"),
    message:
        "Making pictures of {wildcards.variant}"
    script:
        "../scripts/examples.py"


FEATURES = CONFIG.scores["feature_distances"]


# Features of test images, and distances of what is no sample: once per data set. `weights` changes
# when the network's package is installed; a network of the user's own is an input.
rule features:
    input:
        data=f"data/{DATASET}.h5",
        network=[FEATURES.features] if is_own(FEATURES.features) else [],
    output:
        FILES["features"],
    log:
        f"logs/features_{DATASET}.log",
    benchmark:
        f"benchmarks/out/features_{DATASET}.tsv"
    threads: threads_of_data_set
    resources:
        gpu=int(SCORES_ON_GPU),
        mem_mb=asked_mb_of_store(memory.of_features),
        runtime=asked(runtime.of_scores),
    params:
        settings=compared_settings(FEATURES),
        n_samples=CONFIG.sampling.n_samples,
        seed=CONFIG.seeds[0],
        weights=missing(FEATURES.features),
        device=device_of_scores,
        code=code(
            "svae.scores.feature_reference:fit",
            "svae.scores.feature_reference:save",
            "svae.scores.measures.feature_distances:Settings",
            "svae.jobs.devices:on_device",
            settings=(FEATURES,),
        ),
    message:
        "Comparing images of the data set in features"
    script:
        "../scripts/features.py"


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
    threads: threads_of_data_set
    resources:
        gpu=int(SCORES_ON_GPU),
        mem_mb=asked_mb_of_store(memory.of_sanity_rows),
        runtime=asked(runtime.of_scores),
    params:
        settings=compared_settings(CONFIG.parzen),
        n_samples=CONFIG.sampling.n_samples,
        seed=CONFIG.seeds[0],
        device=device_of_scores,
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
