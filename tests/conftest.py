"""The tests compute as the workflow does on a CPU: one thread, deterministic operations."""

import signal

import scipy.linalg  # noqa: F401  brings a BLAS of its own, which is to be limited, too
from helpers import visible  # noqa: F401  before set_up hides the GPUs
from threadpoolctl import threadpool_limits

from svae.jobs import devices

devices.set_up(None, threads=1)
# There is a worker per core; what a test starts is free to use more threads.
threadpool_limits(1)

# In the background, or under nohup, they are ignored, and so they would be in what a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The files that take longest go first, so that all workers of `make test` end together.
LONGEST = (
    *("workflow", "workflow_runs", "training", "resume", "workflow_data", "workflow_stops"),
    *("precision", "docs", "training_step", "diagnosis", "devices", "datasets_convert", "config"),
)


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
