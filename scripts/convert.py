"""Convert the files of the data set into one h5 store, or bring back the one that they became."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.datasets.convert import convert
    from svae.datasets.verify import verify
    from svae.jobs.provenance import software
    from svae.jobs.set_aside import SetAside, folder_for, stamp

    params, output = snakemake.params, snakemake.output[0]
    sources = dict(snakemake.input.items())
    aside = SetAside(output, folder_for(output))
    identity = {
        "settings": params.settings,
        "files": {role: stamp(path) for role, path in sources.items()},
        "folders": params.listings,
        "sha256": params.sha256,
        "published": params.published,
        "code": params.code,
        "software": software("numpy", "h5py", "pillow", "mlxtend"),
    }
    if not aside.link_back(identity):
        files = {**sources, **params.folders}
        for role, published in params.to_verify.items():
            verify(files[role], **published)
        convert(
            params.dataset,
            files,
            output,
            sha256=params.sha256,
            title=params.published["title"],
            processes=snakemake.threads,
            **params.settings,
        )
        aside.keep(identity)
