"""What a job needs that is no science: devices, logs, files, and what makes an output stale."""
