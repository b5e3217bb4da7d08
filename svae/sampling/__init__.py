"""Samples from the prior, and the examples that the report shows of a model."""
