"""Environments of callers in which a job must still do the same."""

HOSTILE = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "KERAS_BACKEND": "torch",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONUTF8": "0",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
    "XLA_FLAGS": "--no_such_flag",
    "NVIDIA_TF32_OVERRIDE": "0",
    "HDF5_DRIVER": "no_such_driver",
}
# Content of ~/.keras/keras.json.
OTHER_KERAS = {
    "backend": "torch",
    "image_data_format": "channels_first",
    "floatx": "float64",
    "epsilon": 0.1,
}
