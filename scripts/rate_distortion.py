"""Draw rate and distortion of all variants and seeds, and write their numbers."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.report.draw_rate_distortion import draw

    params, inputs = snakemake.params, snakemake.input
    draw(
        inputs.data,
        inputs.spectrum,
        params.variants,
        params.seeds,
        params.families,
        inputs.records,
        inputs.objectives,
        inputs.per_image,
        **dict(snakemake.output.items()),
    )
