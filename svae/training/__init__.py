"""Training: one step, the loop over epochs, and the run folder that it writes."""
