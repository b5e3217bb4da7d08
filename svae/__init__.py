"""Spatial variational auto-encoders: does a VAE get better with small feature maps as its latent?

Importing this package imports neither TensorFlow nor h5py; the modules below it do, where needed.
"""

__version__ = "0.1.0"
