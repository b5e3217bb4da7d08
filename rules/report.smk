STUDY = study(*SCORES)
# In the params, because the fingerprints of the rules below do not cover the modules of scores.
COLUMNS = [score.shown for score in SCORES.values()]
COMPARED = {
    "variants": list(CONFIG.variants),
    "seeds": list(CONFIG.seeds),
    "comparisons": CONFIG.comparisons,
}
GRIDS = ["reconstructions", "interpolations", "neighbours"]
CHARTS = ["sigma_curves", "paired_differences", "score_against_kl_weight", "kl_per_map"]
# What compares different KL weights is in the report where there are any.
RATES = ["rate_distortion"] if several_weights(CONFIG.variants) else []
FIGURES = ["comparison", "training_curves", "dataset", *GRIDS, *CHARTS, *RATES]
SAMPLES = expand("results/samples_{variant}.png", variant=CONFIG.variants)
# All of them are targets, so that one that was deleted is made again.
RESULTS = [
    "results/report.html",
    *(f"results/{name}" for name in ("summary.md", "summary.csv", "paired_differences.csv")),
    *(f"results/{name}.png" for name in FIGURES),
    *SAMPLES,
    *(f"results/{name}.{kind}" for name in RATES for kind in ("csv", "json")),
    *expand("results/parzen_{variant}.json", variant=CONFIG.variants),
]


rule comparison:
    input:
        data=f"data/{DATASET}.h5",
        records=compared(f"{RUN}/run.json"),
        samples=compared(f"{RUN}/samples.h5"),
    output:
        shown("results/comparison.png", "Pictures"),
    log:
        "logs/comparison.log",
    localrule: True
    params:
        variants=list(CONFIG.variants),
        columns=CONFIG.figure.columns,
        training_images=CONFIG.figure.training_images,
        code=code("svae.report.draw_comparison:draw"),
    message:
        "Drawing {output}"
    script:
        "../scripts/comparison.py"


# Pictures from the model of each variant's first seed.
rule grids:
    input:
        pictures=first(f"{RUN}/pictures.h5"),
    output:
        *(shown(f"results/{name}.png", "Pictures") for name in GRIDS),
        samples=[
            shown(path, "Pictures", "samples", variant=name)
            for path, name in zip(SAMPLES, CONFIG.variants)
        ],
    log:
        "logs/grids.log",
    localrule: True
    params:
        variants=list(CONFIG.variants),
        code=code("svae.report.draw_grids:draw"),
    message:
        "Drawing reconstructions, interpolations, samples and their neighbours"
    script:
        "../scripts/grids.py"


# The histories are next to the records, and have the same age.
rule training_curves:
    input:
        unpack(histories),
        records=first(f"{RUN}/run.json"),
    output:
        shown("results/training_curves.png", "Plots"),
    log:
        "logs/training_curves.log",
    localrule: True
    params:
        variants=list(CONFIG.variants),
        code=code("svae.report.draw_curves:draw"),
    message:
        "Drawing {output}"
    script:
        "../scripts/training_curves.py"


rule charts:
    input:
        **study("objective", "parzen", "linear_vae"),
    output:
        *(shown(f"results/{name}.png", "Plots") for name in CHARTS),
    log:
        "logs/charts.log",
    localrule: True
    params:
        study=COMPARED,
        title=DATASET,
        code=code(
            "svae.report.draw_charts:draw",
            "svae.report.study:Files",
            "svae.report.study:read",
        ),
    message:
        "Drawing charts"
    script:
        "../scripts/charts.py"


rule rate_distortion:
    input:
        data=f"data/{DATASET}.h5",
        spectrum=SPECTRUM,
        records=every(f"{RUN}/run.json"),
        objectives=every(f"{RUN}/scores/objective.json"),
        per_image=every(f"{RUN}/scores/objective_per_image.npz"),
    output:
        figure=shown("results/rate_distortion.png", "Plots"),
        table=shown("results/rate_distortion.csv", "Tables"),
        summary="results/rate_distortion.json",
    log:
        "logs/rate_distortion.log",
    localrule: True
    params:
        variants=list(CONFIG.variants),
        seeds=list(CONFIG.seeds),
        families={name: list(family.members) for name, family in CONFIG.families.items()},
        code=code("svae.report.draw_rate_distortion:draw"),
    message:
        "Drawing {output.figure}"
    script:
        "../scripts/rate_distortion.py"


rule summary:
    input:
        **STUDY,
        data=f"data/{DATASET}.h5",
    output:
        csv=shown("results/summary.csv", "Tables"),
        markdown="results/summary.md",
        pairs="results/paired_differences.csv",
    log:
        "logs/summary.log",
    localrule: True
    params:
        study=COMPARED,
        scores=COLUMNS,
        license=CONFIG.dataset.license,
        code=code(
            "svae.report.summary:summarise",
            "svae.report.study:Files",
            "svae.datasets.store:Store",
        ),
    message:
        "Writing {output.markdown}"
    script:
        "../scripts/summary.py"


rule report:
    input:
        **STUDY,
        **{name: f"results/{name}.png" for name in [*GRIDS, *CHARTS, *RATES]},
        **{f"{name}_summary": f"results/{name}.json" for name in RATES},
        comparison="results/comparison.png",
        training_curves="results/training_curves.png",
        dataset="results/dataset.png",
        samples=SAMPLES,
        data=f"data/{DATASET}.h5",
    output:
        shown("results/report.html", "Report"),
    log:
        "logs/report.log",
    localrule: True
    params:
        study=COMPARED,
        scores=COLUMNS,
        license=CONFIG.dataset.license,
        figures=FIGURES,
        config=dict(config),
        clone=clone,
        template=file_hash(CLONE / "svae/report/templates/report.html.j2"),
        captions=[file_hash(CLONE / f"rules/captions/{name}.rst") for name in [*FIGURES, "samples"]],
        code=code(
            "svae.report.page:write",
            "svae.report.page:commit_of",
            "svae.report.study:Files",
            "svae.datasets.store:Store",
        ),
    message:
        "Writing {output}"
    script:
        "../scripts/report.py"
