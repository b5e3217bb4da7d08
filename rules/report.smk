rule comparison:
    input:
        data=f"data/{DATASET}.h5",
        samples=every(f"{RUN}/samples.h5"),
    output:
        "results/comparison.png",
    log:
        "logs/comparison.log",
    params:
        variants=list(CONFIG.variants),
        columns=CONFIG.figure_columns,
        code=fingerprint("svae.figures", "svae.samples", "svae.datasets.store"),
    message:
        "Drawing {output}"
    script:
        "../scripts/comparison.py"


# The histories lie beside the records, and are as old.
rule training_curves:
    input:
        records=every(f"{RUN}/run.json"),
    output:
        "results/training_curves.png",
    log:
        "logs/training_curves.log",
    params:
        variants=list(CONFIG.variants),
        code=fingerprint("svae.curves"),
    message:
        "Drawing {output}"
    script:
        "../scripts/training_curves.py"


rule summary:
    input:
        records=every(f"{RUN}/run.json"),
        scores=every(f"{RUN}/parzen.json"),
        per_image=every(f"{RUN}/parzen_per_image.npz"),
    output:
        csv="results/summary.csv",
        markdown="results/summary.md",
    log:
        "logs/summary.log",
    params:
        variants=list(CONFIG.variants),
        code=fingerprint("svae.summary"),
    message:
        "Writing {output.csv} and {output.markdown}"
    script:
        "../scripts/summary.py"
