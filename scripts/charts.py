"""Draw the charts of all variants and seeds."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.report.draw_charts import draw
    from svae.report.study import Files, read

    files = Files.among(**snakemake.params.study, inputs=snakemake.input)
    draw(read(snakemake.params.title, files), snakemake.output)
