# Before the first job, so that nothing is fetched and converted for trainings that cannot be.
onstart:
    if CONFIG.device == "gpu" and HERE and not GPUS:
        if any_job_uses("gpu"):
            sys.exit(f"Error in the configuration: {no_gpu()}")


# What a training shows and says, what becomes of other runs, and nothing that it is decided by: an
# edit of these retrains nothing.
BESIDE_TRAINING = (
    "svae.training.tensorboard",
    "svae.training.diagnosis",
    "svae.training.progress",
    "svae.jobs.set_aside",
    "svae.scores.spectrum",
)


# What a linear VAE would reach, without a network: trainings that end far from it warn.
rule spectrum:
    input:
        data=f"data/{DATASET}.h5",
    output:
        SPECTRUM,
    log:
        f"logs/spectrum_{DATASET}.log",
    benchmark:
        f"benchmarks/out/spectrum_{DATASET}.tsv"
    threads: CONFIG.threads
    params:
        most_components=max(
            1024, *(own.latent_maps * own.latent_size**2 for own in CONFIG.variants.values())
        ),
        seed=CONFIG.seeds[0],
        threads=threads_of_spectrum,
        code=fingerprint("svae.scores.principal_components", "svae.jobs.devices"),
    message:
        "Fitting principal components of the training images"
    script:
        "../scripts/spectrum.py"


# Only run.json is declared: Snakemake deletes the outputs of a job before it starts and when it
# fails, and the weights, history and checkpoints of a run must outlive both. A run of other settings
# moves to set-aside/, and comes back from there.
# The spectrum decides nothing but what a run is compared with and warned of: the job runs again after
# a newer one, but takes no step. As an ancient input it would not, and worse: Snakemake plans no job
# by its changed params while an ancient input of it is being made.
rule train:
    input:
        data=f"data/{DATASET}.h5",
        spectrum=SPECTRUM,
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
        code=fingerprint("svae.training.train", "svae.jobs.devices", without=BESIDE_TRAINING),
    message:
        "Training {wildcards.variant}"
    script:
        "../scripts/train.py"
