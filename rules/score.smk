rule parzen:
    input:
        data=f"data/{DATASET}.h5",
        record=f"{RUN}/run.json",
        samples=f"{RUN}/samples.h5",
    output:
        score=f"{RUN}/parzen.json",
        per_image=f"{RUN}/parzen_per_image.npz",
    log:
        f"logs/parzen_{JOB}.log",
    benchmark:
        f"benchmarks/out/parzen_{JOB}.tsv"
    threads: cores
    resources:
        gpu=1 if ON_GPU else 0,
    params:
        settings=asdict(CONFIG.parzen),
        sampling=asdict(CONFIG.sampling),
        fresh_draws=CONFIG.fresh_draws,
        device=device,
        threads=threads,
        code=fingerprint("svae.scores.scoring", "svae.jobs.devices"),
    message:
        "Scoring {wildcards.variant}"
    script:
        "../scripts/parzen.py"


# Scores stay with their runs, so that changing the data set and back costs only a copy.
rule result:
    input:
        lambda wildcards: expand(f"{RUN}/parzen.json", seed=CONFIG.seeds, variant=wildcards.variant),
    output:
        report("results/parzen_{variant}.json", caption="captions/parzen.rst", category="Scores"),
    log:
        "logs/result_{variant}.log",
    params:
        code=fingerprint("svae.report.seeds"),
    message:
        "Writing {output}"
    script:
        "../scripts/result.py"


# Measures of a run other than its Parzen score, and the pictures of its model.
rule evaluate:
    input:
        data=f"data/{DATASET}.h5",
        record=f"{RUN}/run.json",
        samples=f"{RUN}/samples.h5",
    output:
        measures=f"{RUN}/evaluation.json",
        pictures=f"{RUN}/pictures.h5",
    log:
        f"logs/evaluate_{JOB}.log",
    benchmark:
        f"benchmarks/out/evaluate_{JOB}.tsv"
    threads: cores
    resources:
        gpu=1 if ON_GPU else 0,
    params:
        settings=asdict(CONFIG.evaluation),
        device=device,
        threads=threads,
        code=fingerprint("svae.scores.measures", "svae.jobs.devices"),
    message:
        "Evaluating {wildcards.variant}"
    script:
        "../scripts/evaluate.py"


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
        settings=asdict(CONFIG.parzen),
        n_samples=CONFIG.sampling.n_samples,
        seed=CONFIG.seeds[0],
        device=device,
        threads=CONFIG.threads,
        code=fingerprint("svae.scores.sanity_rows", "svae.jobs.devices"),
    message:
        "Scoring sanity rows"
    script:
        "../scripts/baselines.py"


# A linear VAE at its optimum, which is known in closed form, with the KL weight of this run.
rule linear_vae:
    input:
        data=f"data/{DATASET}.h5",
        record=f"{RUN}/run.json",
        spectrum=SPECTRUM,
    output:
        f"{RUN}/linear_vae.json",
    log:
        f"logs/linear_vae_{JOB}.log",
    threads: cores
    resources:
        gpu=1 if ON_GPU else 0,
    params:
        settings=asdict(CONFIG.parzen),
        n_samples=CONFIG.sampling.n_samples,
        device=device,
        threads=threads,
        code=fingerprint("svae.scores.linear_vae", "svae.jobs.devices"),
    message:
        "Scoring the linear VAE for {wildcards.variant}"
    script:
        "../scripts/linear_vae.py"
