from snakemake.utils import min_version

min_version("9.10")


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/sample.smk"
include: "rules/score.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        "results/dataset.png",
        "results/training_curves.png",
        "results/comparison.png",
        "results/summary.csv",
        "results/summary.md",
        every("results/parzen_{variant}.json"),
