"""Write the tables of all variants."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.datasets.store import Store
    from svae.report.study import Files
    from svae.report.summary import summarise

    with Store(snakemake.input.data) as store:
        attributes = store.attributes
    summarise(
        Files.among(**snakemake.params.study, inputs=snakemake.input),
        attributes,
        license=snakemake.params.license,
        csv=snakemake.output.csv,
        markdown=snakemake.output.markdown,
        pairs=snakemake.output.pairs,
    )
