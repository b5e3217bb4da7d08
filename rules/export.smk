# A trained model for other programs; only on request.
rule export:
    input:
        images_to_encode,
        data=f"data/{DATASET}.h5",
        record=run_to_export("run.json"),
        samples=run_to_export("samples.h5"),
    output:
        directory("results/export_{variant}"),
    log:
        "logs/export_{variant}.log",
    threads: threads
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
