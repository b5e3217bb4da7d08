rule fetch:
    output:
        f"data/raw/{DATASET}/{{file}}",
    log:
        f"logs/fetch_{DATASET}_{{file}}.log",
    params:
        source=fetched,
    message:
        "Downloading {wildcards.file}"
    script:
        "../scripts/fetch.py"


rule convert:
    input:
        **source_files(),
    output:
        f"data/{DATASET}.h5",
    log:
        f"logs/convert_{DATASET}.log",
    benchmark:
        f"benchmarks/out/convert_{DATASET}.tsv"
    params:
        dataset=DATASET,
        sha256={role: source.sha256 for role, source in CONFIG.sources.items() if source.sha256},
        crop=CONFIG.crop,
        size=CONFIG.size,
        published={  # what the conversion reads of sources.yaml
            "title": CONFIG.dataset.title,
            "padding": CONFIG.dataset.padding,
            "files": [
                (known.role, known.name, known.known_hash)
                for file in CONFIG.dataset.files
                for known in (file, *file.alternatives)
            ],
        },
        code=fingerprint("svae.datasets.convert", f"svae.datasets.{DATASET}"),
    message:
        "Converting {params.dataset} into {output}"
    script:
        "../scripts/convert.py"
