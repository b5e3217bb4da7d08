from snakemake.utils import min_version

min_version("9.10")


include: "rules/snakemake_internals.smk"
include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/sample.smk"
include: "rules/score.smk"
include: "rules/report.smk"
include: "rules/export.smk"
include: "rules/advice.smk"


rule all:
    default_target: True
    input:
        RESULTS,
        every(f"{RUN}/run.json"),
