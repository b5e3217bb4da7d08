"""Draw the training curves of all variants."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.report.draw_curves import draw

    draw(snakemake.params.variants, snakemake.input.records, snakemake.output[0])
