"""The tests compute as the workflow does on a CPU: one thread, deterministic operations."""

import signal

import visible  # noqa: F401  before set_up hides the GPUs

from svae import devices

devices.set_up(None, threads=1)

# In the background, or under nohup, they are ignored, and so they would be in what a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
