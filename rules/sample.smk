rule sample:
    input:
        record=f"{RUN}/run.json",
    output:
        samples=f"{RUN}/samples.h5",
    log:
        f"logs/sample_{JOB}.log",
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
