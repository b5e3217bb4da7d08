# Before the first job, so that nothing is fetched and converted for trainings that cannot be.
onstart:
    if CONFIG.device == "gpu" and HERE and not GPUS:
        if any("gpu" in job.rule.resources for job in workflow.dag.needrun_jobs()):
            sys.exit(f"Error in the configuration: {no_gpu()}")


# What a training shows and says, what becomes of other runs, and nothing that it is decided by: an
# edit of these retrains nothing.
BESIDE_TRAINING = ("svae.tensorboard", "svae.diagnosis", "svae.progress", "svae.set_aside")


# Only run.json is declared: Snakemake deletes the outputs of a job before it starts and when it
# fails, and the weights, history and checkpoints of a run must outlive both. A run of other settings
# moves to set-aside/, and comes back from there.
rule train:
    input:
        data=f"data/{DATASET}.h5",
    output:
        record=f"{RUN}/run.json",
    log:
        f"logs/train_{JOB}.log",
    benchmark:
        f"benchmarks/out/train_{JOB}.tsv"
    threads: cores
    resources:
        gpu=1 if ON_GPU else 0,
    params:
        settings=training,
        services=services,
        device=device,
        seed=seed,
        code=fingerprint("svae.training", "svae.devices", without=BESIDE_TRAINING),
    message:
        "Training {wildcards.variant}"
    script:
        "../scripts/train.py"
