# A trained model for other programs; only on request.
rule export:
    input:
        images_to_encode,
        **{name: run_to_export(path) for name, path in WEIGHTS.items()},
        data=f"data/{DATASET}.h5",
        record=run_to_export(f"{RUN}/run.json"),
        samples=run_to_export(f"{RUN}/samples.h5"),
    output:
        directory("results/export_{variant}"),
    log:
        "logs/export_{variant}.log",
    threads: threads
    resources:
        mem_mb=asked_mb(memory.of_samples),
        runtime=asked(runtime.of_samples),
    params:
        settings=compared_settings(CONFIG.export),
        listing=listing_of_images,
        code=code_of_variant(
            "svae.use.export:export",
            "svae.settings.export:ExportSettings",
            "svae.jobs.devices:set_up",
            settings=(CONFIG.export,),
        ),
    message:
        "Exporting {wildcards.variant}"
    script:
        "../scripts/export.py"
