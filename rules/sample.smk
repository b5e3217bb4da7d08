# Only if sampling.prior or sampling.batch_norm asks for it.
rule prior:
    input:
        **WEIGHTS,
        data=f"data/{DATASET}.h5",
        record=f"{RUN}/run.json",
    output:
        prior=f"{RUN}/prior.h5",
    log:
        f"logs/prior_{JOB}.log",
    group:
        SHORT
    resources:
        mem_mb=asked_mb(memory.of_samples),
        runtime=asked(runtime.of_samples),
    params:
        settings=asdict(CONFIG.prior),
        code=code_of_variant(
            "svae.sampling.fit:fit",
            "svae.settings.fitted_prior:PriorSettings",
            "svae.jobs.devices:set_up",
        ),
    message:
        "Fitting a prior to {wildcards.variant}"
    script:
        "../scripts/prior.py"


rule sample:
    input:
        unpack(prior_of),
        **WEIGHTS,
        record=f"{RUN}/run.json",
    output:
        samples=f"{RUN}/samples.h5",
    log:
        f"logs/sample_{JOB}.log",
    group:
        SHORT
    resources:
        mem_mb=asked_mb(memory.of_samples),
        runtime=asked(runtime.of_samples),
    params:
        settings=compared_settings(CONFIG.sampling),
        code=code_of_variant(
            "svae.sampling.prior:sample",
            "svae.settings.sampling:SamplingSettings",
            "svae.jobs.devices:set_up",
            settings=(CONFIG.sampling,),
        ),
    message:
        "Sampling from {wildcards.variant}"
    script:
        "../scripts/sample.py"
