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
    *("precision", "docs", "training_step", "diagnosis", "devices", "datasets_convert", "config"),
)


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
