"""The GPUs of the machine, listed before the process of the tests hides them from itself."""

from svae.jobs.devices import visible_gpus

GPUS = visible_gpus()
