"""The tests compute as the workflow does on a CPU: one thread, deterministic operations."""

import visible  # noqa: F401  before set_up hides the GPUs

from svae import devices

devices.set_up(None, threads=1)
