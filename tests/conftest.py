"""The tests compute as the workflow does on a CPU: one thread, deterministic operations."""

from svae import devices

devices.set_up(None, threads=1)
