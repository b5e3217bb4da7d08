"""Draw the contact sheet: images of every split of the data set, and how they were made."""

from svae.logs import log_to

with log_to(snakemake.log[0]):
    import numpy as np

    from svae.datasets.store import Store
    from svae.figures import contact_sheet, evenly_spaced, sheet_columns, sheet_text

    splits = {}
    with Store(snakemake.input.data) as store:
        title, caption = sheet_text(store.attributes, store.shape)
        columns = sheet_columns(store.shape[1])
        for name, rows in {"train": 3, "valid": 2, "test": 2}.items():
            images = store.split(name)
            chosen = evenly_spaced(len(images), rows * columns)
            splits[name] = np.stack([images[index] for index in chosen]), len(images)
    contact_sheet(splits, title, caption, columns, snakemake.output[0])
