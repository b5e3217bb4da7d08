"""All drawing: takes arrays, writes PNG images.

grids   rows and grids of images
curves  curves over epochs
charts  scores, differences and latents of all variants
style   shared colours, markers and sizes
"""
