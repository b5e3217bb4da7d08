"""The settings: one frozen dataclass for each section of config.yaml, one field for each setting.

`svae.settings.fields.setting` declares a field; `svae.config` reads config.yaml into these objects.
"""
