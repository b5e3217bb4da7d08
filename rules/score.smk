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
    params:
        settings=asdict(CONFIG.parzen),
        code=fingerprint("svae.scoring"),
    message:
        "Scoring {wildcards.variant}"
    script:
        "../scripts/parzen.py"


# Scores stay with their runs, so that another data set and back again costs a copy.
rule result:
    input:
        f"{RUN}/parzen.json",
    output:
        "results/parzen_{variant}.json",
    log:
        "logs/result_{variant}.log",
    message:
        "Writing {output}"
    shell:
        "cp {input} {output} 2> {log}"
