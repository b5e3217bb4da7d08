rule sample:
    input:
        record=f"{RUN}/run.json",
    output:
        samples=f"{RUN}/samples.h5",
    log:
        f"logs/sample_{JOB}.log",
    params:
        settings=asdict(CONFIG.sampling),
        code=fingerprint("svae.sampling.prior", "svae.jobs.devices"),
    message:
        "Sampling from {wildcards.variant}"
    script:
        "../scripts/sample.py"
