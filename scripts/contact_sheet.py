"""Draw the contact sheet: images of every split of the data set, and how they were made."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.report.draw_contact_sheet import draw

    draw(snakemake.input.data, snakemake.output[0])
