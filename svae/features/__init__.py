"""Pretrained networks whose features samples and images are compared in."""
