"""Infrastructure of a job: devices, logs, files, fingerprints, and runs that are set aside."""
