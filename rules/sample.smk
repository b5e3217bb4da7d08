rule sample:
    input:
        record=f"{RUN}/run.json",
    output:
        samples=f"{RUN}/samples.h5",
    log:
        f"logs/sample_{DATASET}_{{variant}}_seed-{CONFIG.seed}.log",
    params:
        settings=configuration.as_params(CONFIG.sampling),
        code=fingerprint("svae.sampling"),
    message:
        "Sampling from {wildcards.variant}"
    script:
        "../scripts/sample.py"
