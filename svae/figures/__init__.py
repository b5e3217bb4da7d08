"""All drawing: takes arrays and numbers, returns figures; knows nothing of files.

grids                    rows and grids of images
curves                   curves over epochs
sigma_curves             how sigma was chosen
differences              comparisons of two variants, with the intervals that decide
score_against_kl_weight  scores by w, next to linear VAEs and sanity rows
rate_distortion          distortion over rate, and its log ratio to that of linear VAEs
kl_per_map               the KL of latent maps, by rank
frame                    what these charts share: axes with a legend below, styles, scales
style                    colours, markers and sizes of all figures
"""
