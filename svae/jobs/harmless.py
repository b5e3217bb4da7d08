"""Functions, classes and methods of Python and libraries that have no side effect, by full name.

Imported by the Snakefile: standard library only.
"""

import builtins

_ACTING = {
    *("__import__", "breakpoint", "compile", "delattr", "eval", "exec", "exit", "globals", "help"),
    *("input", "locals", "next", "open", "print", "quit", "setattr", "vars"),
}
BUILT_INS = {name for name, value in vars(builtins).items() if callable(value)} - _ACTING
# Modules all of whose functions have no side effect.
MODULES = (
    *("abc.", "collections.", "decimal.", "enum.", "fractions.", "itertools.", "math."),
    *("operator.", "re.", "string.", "struct.", "types.", "typing."),
)
FUNCTIONS = {
    *("dataclasses.dataclass", "dataclasses.field", "datetime.date", "datetime.datetime"),
    *("datetime.timedelta", "functools.cache", "functools.lru_cache", "functools.partial"),
    *("logging.getLogger", "os.getuid"),
    *("pathlib.Path", "pathlib.PurePath", "tempfile.gettempdir"),
    *("numpy.arange", "numpy.array", "numpy.asarray", "numpy.dtype", "numpy.exp", "numpy.eye"),
    *("numpy.finfo", "numpy.float16", "numpy.float32", "numpy.float64", "numpy.full"),
    *("numpy.iinfo", "numpy.int32", "numpy.int64", "numpy.linspace", "numpy.log", "numpy.log2"),
    *("numpy.ones", "numpy.sqrt", "numpy.uint8", "numpy.uint16", "numpy.zeros"),
    *("tensorflow.TensorSpec", "tensorflow.constant"),
}
# Methods of strings, numbers, paths, arrays and mappings that do not change their object.
METHODS = {
    *("as_posix", "astype", "copy", "decode", "encode", "expanduser", "format", "fromkeys", "get"),
    *("group", "items", "join", "joinpath", "keys", "lower", "match", "removeprefix"),
    *("removesuffix", "reshape", "resolve", "split", "splitlines", "strip", "title", "tolist"),
    *("upper", "values", "with_name", "with_suffix"),
}
DECORATORS = {
    *("abc.abstractmethod", "builtins.classmethod", "builtins.property", "builtins.staticmethod"),
    *("contextlib.asynccontextmanager", "contextlib.contextmanager", "dataclasses.dataclass"),
    *("enum.unique", "functools.cache", "functools.cached_property", "functools.lru_cache"),
    *("functools.singledispatch", "functools.total_ordering", "functools.wraps"),
    *("keras.saving.register_keras_serializable", "keras.utils.register_keras_serializable"),
    *("tensorflow.custom_gradient", "tensorflow.function"),
    *("typing.final", "typing.overload", "typing.override", "typing.runtime_checkable"),
}
BASES = {
    *("abc.ABC", "builtins.object", "enum.Enum", "enum.Flag", "enum.IntEnum", "enum.StrEnum"),
    *("typing.Generic", "typing.NamedTuple", "typing.Protocol"),
}
