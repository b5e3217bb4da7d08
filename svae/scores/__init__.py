"""What is measured of a run, of its samples, or of a data set without any network."""
