# With `update`, Snakemake does not delete an existing file before the job: a file that was put there
# by hand or downloaded before is checked and kept.
rule fetch:
    output:
        update(f"data/raw/{READER}/{{file}}"),
    log:
        f"logs/fetch_{READER}_{{file}}.log",
    localrule: True
    params:
        known_hash=lambda wildcards: FETCHED[wildcards.file].known_hash,
        addresses=addresses,
    message:
        "Downloading {wildcards.file}"
    script:
        "../scripts/fetch.py"


rule convert:
    input:
        **{role: path for role, path in RAW.items() if role not in FOLDERS},
    output:
        f"data/{DATASET}.h5",
    log:
        f"logs/convert_{DATASET}.log",
    benchmark:
        f"benchmarks/out/convert_{DATASET}.tsv"
    threads: threads_of_conversion
    resources:
        mem_mb=memory_of_conversion,
        runtime=asked(runtime.of_conversion),
    params:
        dataset=READER,
        folders=FOLDERS,
        listings=listings_of_sources,
        sha256={role: source.sha256 for role, source in CONFIG.sources.items() if source.sha256},
        to_verify=to_verify,
        settings=asdict(CONFIG.conversion),
        published={  # the part of sources.yaml that determines the store
            "title": CONFIG.dataset.title,
            "padding": CONFIG.dataset.padding,
            "files": [
                (known.role, known.name, known.known_hash)
                for file in CONFIG.dataset.files
                for known in (file, *file.alternatives)
            ],
        },
        code=code(
            "svae.datasets.verify:verify",
            "svae.datasets.convert:convert",
            f"svae.datasets.readers.{READER}:read",
            f"svae.datasets.readers.{READER}:SPLIT_RULE",
        ),
    message:
        "Converting {params.dataset} into {output}"
    script:
        "../scripts/convert.py"


# Shows a wrong crop before any training.
rule contact_sheet:
    input:
        data=f"data/{DATASET}.h5",
    output:
        shown("results/dataset.png", "Pictures"),
    log:
        "logs/contact_sheet.log",
    localrule: True
    params:
        code=code("svae.report.draw_contact_sheet:draw"),
    message:
        "Drawing {output}"
    script:
        "../scripts/contact_sheet.py"
