from snakemake.utils import min_version

min_version("9.10")


# The first rule, since `default_target` would make it that of a workflow with this one as a module.
rule all:
    input:
        lambda wildcards: [*RESULTS, *every(f"{RUN}/run.json")],


include: "rules/snakemake_internals.smk"
include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/sample.smk"
include: "rules/score.smk"
include: "rules/report.smk"
include: "rules/export.smk"
include: "rules/advice.smk"
