# A trained model for other programs; only on request.


def run_to_export(file):
    """A file of the run that is exported: that of the variant's first seed."""

    def path(wildcards):
        return f"{RUN}/{file}".format(variant=wildcards.variant, seed=CONFIG.seeds[0])

    return path


def own_images(wildcards):
    """The archive of images to encode; a folder is in the params, by its listing."""
    source = CONFIG.export.images
    return [] if source is None or Path(source).is_dir() else source


def listing_of_own_images(wildcards):
    source = CONFIG.export.images
    return folder_listing(source) if source is not None and Path(source).is_dir() else None


def threads_of_export(wildcards, threads):
    """Never makes an output stale: it affects only the last digits of latents."""
    return CONFIG.variants[wildcards.variant].threads


rule export:
    input:
        own_images,
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
        listing=listing_of_own_images,
        threads=threads_of_export,
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
