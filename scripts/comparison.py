"""Draw the comparison figure: training images, then the first samples of each variant."""

from svae.logs import log_to

with log_to(snakemake.log[0]):
    from svae.datasets.store import Store, scale
    from svae.figures.grids import comparison
    from svae.samples import open_samples

    columns = snakemake.params.columns
    with Store(snakemake.input.data) as store:
        rows = {"training images": scale(store.images("train", columns))}
        height, width, _ = store.shape
        title = f"{store.attributes['title']} ({height}x{width}): samples of each variant"
    for variant, path in zip(snakemake.params.variants, snakemake.input.samples, strict=True):
        with open_samples(path) as samples:
            rows[variant] = samples[:columns]
    comparison(rows, title, snakemake.output[0])
