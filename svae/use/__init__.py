"""Using a trained model: `svae.load`, and the export of a run for other programs."""
