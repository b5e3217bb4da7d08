"""Data sets: fetched, read, converted to stores, and fed to trainings."""

SPLITS = ("train", "valid", "test")
