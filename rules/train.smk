# Only run.json is declared: Snakemake deletes the outputs of a job before it starts and when it
# fails, and the weights, history and checkpoints of a run must outlive both.
rule train:
    input:
        data=f"data/{DATASET}.h5",
    output:
        record=f"{RUN}/run.json",
    log:
        f"logs/train_{JOB}.log",
    benchmark:
        f"benchmarks/out/train_{JOB}.tsv"
    threads: lambda wildcards: 1 if GPUS else CONFIG.variants[wildcards.variant].threads
    resources:
        gpu=1 if GPUS else 0,
    params:
        settings=training,
        services=services,
        device=device,
        seed=CONFIG.seed,
        code=fingerprint("svae.training", "svae.devices"),
    message:
        "Training {wildcards.variant}"
    script:
        "../scripts/train.py"
