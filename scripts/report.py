"""Write the page of everything."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.datasets.store import Store
    from svae.report.page import commit_of, write
    from svae.report.study import Files

    with Store(snakemake.input.data) as store:
        attributes = store.attributes
    commit, changed = commit_of(snakemake.params.clone)
    write(
        snakemake.output[0],
        Files.among(**snakemake.params.study, inputs=snakemake.input),
        attributes=attributes,
        license=snakemake.params.license,
        config=snakemake.params.config,
        figures={name: snakemake.input[name] for name in snakemake.params.figures},
        rates=snakemake.input.get("rate_distortion_summary"),
        samples=dict(zip(snakemake.params.study["variants"], snakemake.input.samples, strict=True)),
        commit=commit,
        changed=changed,
    )
