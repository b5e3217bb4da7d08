# What Snakemake does not say itself: what a fault or an option means here, and what to do.


def advise(text):
    print(text, file=sys.stderr)


if locked_by_another():
    advise(
        f"Another snakemake is at work in {Path.cwd()}, or was killed there. Two at the same time need "
        "a folder each: snakemake --directory DIR, with the configuration in DIR/config.yaml."
    )

if not (files_are_shared() or within_a_job()):
    advise(
        "Jobs do not share their files: checkpoints are lost with the job that wrote them, and a training "
        "that is stopped starts from nothing."
    )

if "--delete-all-output" in sys.argv:
    advise(
        "--delete-all-output keeps the weights and checkpoints in runs/ and all of set-aside/, from "
        "which the next snakemake makes the outputs again without training. To train from nothing, "
        "delete both folders, too."
    )


# The variants whose training began and failed; one that was stopped resumes.
def failed_variants():
    def failed(seed, variant):
        places = {"seed": seed, "variant": variant}
        log = Path(f"logs/train_{JOB}.log".format(**places))
        stopped = log.exists() and "stopped by SIG" in log.read_text(errors="replace")
        return (
            log.exists() and not stopped and not Path(f"{RUN}/run.json".format(**places)).exists()
        )

    return [name for name in CONFIG.variants if any(failed(seed, name) for seed in CONFIG.seeds)]


onerror:
    if a_job_was_killed(log):
        advise(
            "A job was killed from outside, most often because the memory was exhausted. "
            "`snakemake --resources mem_mb=N` holds jobs back that would need more than N megabytes "
            "together."
        )
    failed = failed_variants()
    if 0 < len(failed) < len(CONFIG.variants):
        options = options_without(config, CONFIG.variants, CONFIG.families, failed)
        advise(
            f"No finished training of {', '.join(failed)}. For the report of the others, run the same "
            f"command with {options}"
        )
