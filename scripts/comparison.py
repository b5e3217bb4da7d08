"""Draw the comparison figure: training images, then the first samples of each variant."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.report.draw_comparison import draw

    draw(
        snakemake.input.data,
        snakemake.params.variants,
        snakemake.input.records,
        snakemake.input.samples,
        columns=snakemake.params.columns,
        training_images=snakemake.params.training_images,
        target=snakemake.output[0],
    )
