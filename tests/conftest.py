"""The tests compute as the workflow does on a CPU: one thread, deterministic operations."""

import signal

import scipy.linalg  # noqa: F401  has its own BLAS, which must be limited, too
from helpers import visible  # noqa: F401  before set_up hides the GPUs
from threadpoolctl import threadpool_limits

from svae.jobs import devices

devices.set_up(None, threads=1)
# There is one worker per core; processes started by a test may use more threads.
threadpool_limits(1)

# They are ignored in the background or under nohup, and processes of tests would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The files that take longest run first, so that all workers of `make test` end together.
LONGEST = (
    *("workflow", "workflow_runs", "training", "resume", "workflow_data", "workflow_stops"),
    *("precision", "docs", "training_step", "diagnosis", "devices", "datasets_convert"),
    *("config_through_snakemake", "config"),
)


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_unconfigure(config):
    """The counts of `make test-faults`, as last lines."""
    terminalreporter = config.pluginmanager.get_plugin("terminalreporter")
    if terminalreporter is None:  # in a worker
        return
    lines, total = [], dict.fromkeys(("tried", "clean", "resumed", "wrong"), 0)
    clean = ("refused", "same", "complete")  # an error of one line, or no effect
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "faults" and report.when == "call" and "faults" in report.keywords:
                    title, counts = value
                    lines.append(f"{title}: {counts}")
                    for key, count in counts.items():
                        total["clean" if key in clean else key] += count
    if lines:
        terminalreporter.section("faults")
        for line in [*sorted(lines), f"points in all: {total}"]:
            terminalreporter.write_line(line.replace("{", "").replace("}", "").replace("'", ""))
