"""The configuration: read, checked, and resolved into the settings of each stage. No TensorFlow."""
