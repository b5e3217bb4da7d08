# Checked before the first job: nothing is downloaded or converted for trainings that cannot run.
onstart:
    if CONFIG.device == "gpu" and HERE and not GPUS:
        if any_job_uses("gpu"):
            sys.exit(f"Error in the configuration: {no_gpu()}")


# Modules that a training imports but that do not affect its result (logging, warnings, other runs):
# an edit of these retrains nothing.
BESIDE_TRAINING = (
    "svae.training.tensorboard",
    "svae.training.diagnosis",
    "svae.training.progress",
    "svae.jobs.set_aside",
    "svae.scores.spectrum",
)


# The principal components give what a linear VAE reaches; trainings that end far from it warn.
rule spectrum:
    input:
        data=f"data/{DATASET}.h5",
    output:
        SPECTRUM,
    log:
        f"logs/spectrum_{DATASET}.log",
    benchmark:
        f"benchmarks/out/spectrum_{DATASET}.tsv"
    threads: threads_of_data_set
    resources:
        mem_mb=asked_mb_of_store(memory.of_spectrum),
        runtime=asked(runtime.of_spectrum),
    params:
        most_components=max(
            1024, *(own.latent_maps * own.latent_size**2 for own in CONFIG.variants.values())
        ),
        seed=CONFIG.seeds[0],
        code=code("svae.scores.principal_components:fit", "svae.jobs.devices:on_device"),
    message:
        "Fitting principal components of the training images"
    script:
        "../scripts/spectrum.py"


# Where jobs share their files, only run.json is declared: Snakemake deletes the outputs of a job before
# it starts and when it fails, and the weights, history and checkpoints of a run must survive both. A run
# of other settings moves to set-aside/, and returns from there.
# The spectrum affects only comparisons and warnings: after it changed the job runs again, but takes
# no training step. If the input were `ancient`, the job would not run again and, worse, Snakemake
# would not plan it for changed params while the input is being made.
rule train:
    input:
        data=f"data/{DATASET}.h5",
        spectrum=SPECTRUM,
    output:
        **WEIGHTS,
        **HISTORY,
        record=f"{RUN}/run.json",
    log:
        f"logs/train_{JOB}.log",
    benchmark:
        f"benchmarks/out/train_{JOB}.tsv"
    # Trainings come first: scores then fill the cores that are left while the last ones train.
    priority: 1
    threads: threads
    resources:
        gpu=1 if ON_GPU else 0,
        mem_mb=memory_of_training,
        runtime=runtime_of_training,
    params:
        settings=training,
        services=services,
        device=device,
        seed=seed,
        code=code_of_variant(
            "svae.training.train:train",
            "svae.training.stopping:stop_request",
            "svae.settings.training:TrainingSettings",
            "svae.settings.services:Services",
            "svae.settings.services:CheckpointSettings",
            "svae.settings.services:TensorBoardSettings",
            "svae.jobs.devices:on_device",
            without=BESIDE_TRAINING,
        ),
    message:
        "Training {wildcards.variant}"
    script:
        "../scripts/train.py"
