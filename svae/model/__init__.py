"""The model: posteriors, objectives, networks, and SpatialVAE, which joins them."""
