"""The settings of each stage, as small frozen objects: `svae.config` makes them of a config.

One module a stage, so that a new setting of one changes nothing of the others.
"""
