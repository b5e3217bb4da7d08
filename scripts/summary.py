"""Write the table of all variants."""

from svae.logs import log_to

with log_to(snakemake.log[0]):
    from svae.summary import summarise

    summarise(
        variants=snakemake.params.variants,
        records=snakemake.input.records,
        scores=snakemake.input.scores,
        per_image=snakemake.input.per_image,
        csv=snakemake.output.csv,
        markdown=snakemake.output.markdown,
    )
