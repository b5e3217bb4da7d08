"""Draw the grids of pictures of all variants."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.report.draw_grids import draw

    draw(
        snakemake.params.variants,
        snakemake.input.pictures,
        reconstructions=snakemake.output[0],
        interpolations=snakemake.output[1],
        neighbours=snakemake.output[2],
        samples=snakemake.output.samples,
    )
