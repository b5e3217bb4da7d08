"""The settings of each stage, as small frozen objects: made by `svae.config.resolve`.

One module a stage, so that a new setting of one changes nothing of the others.
"""
