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
    threads: 1 if ON_GPU else CONFIG.threads
    resources:
        gpu=1 if ON_GPU else 0,
    params:
        settings=compared_settings(FEATURES),
        n_samples=CONFIG.sampling.n_samples,
        seed=CONFIG.seeds[0],
        weights=missing(FEATURES.features),
        device=device,
        threads=threads_of_features,
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
