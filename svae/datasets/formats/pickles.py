"""Safe reading of untrusted pickles of NumPy arrays; no code in them is run."""

import io
import pickle
import pickletools
import re
from typing import Any

import numpy as np

from svae.errors import UserError, readable


def unpickle_arrays(content: bytes, origin: str) -> dict[Any, Any]:
    """Return a pickled dict of plain values and numeric NumPy arrays, without running any code.

    A pickle may call whatever it names. This reader accepts only the names that NumPy arrays need,
    and replaces them by stand-ins, so that no state from the file reaches NumPy's C code. Strings
    of Python 2 are returned as bytes.

    Args:
        content: a pickle of protocol 0 to 4, written by Python 2 or 3 with NumPy 1 or 2.
        origin: the name of the file in messages.

    Raises:
        UserError: if the pickle names anything else, is damaged, or is not a dict.
    """
    try:
        _check_memo(content)
        loaded = _ArrayUnpickler(content, origin).load()
        if not isinstance(loaded, dict):
            raise ValueError(f"it contains a {type(loaded).__name__}, not a dict")
        return {
            key: value.array if isinstance(value, _Array) else value
            for key, value in loaded.items()
        }
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = readable(str(error))
        raise UserError(
            f"{origin} cannot be read as pickled arrays ({reason}): replace it with a complete "
            "copy, or give another in config.yaml under `sources`."
        ) from error


def _check_memo(content: bytes) -> None:
    """Refuse a memo index that no genuine pickle has: the C unpickler allocates memory for all
    lower indices."""
    argument: Any
    for operation, argument, _ in pickletools.genops(content):
        if operation.name.endswith("PUT") and int(argument) > len(content):
            raise ValueError(f"memo index {argument}")


class _Dtype:
    """Stand-in for numpy.dtype: booleans, integers and floats."""

    def __init__(self, code: str | bytes, align: bool = False, copy: bool = True) -> None:
        code = _text(code)
        if not re.fullmatch("[biuf][1248]", code):
            raise ValueError(f"arrays of type {code} are not supported")
        self.dtype: Any = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(_text(state[1]))


class _Array:
    """Stand-in for an array that is being reconstructed."""

    array: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, column_major, content = state
        flat = np.frombuffer(content, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if column_major else "C")


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Python 3 stores bytes as text under protocol 2, to be encoded as latin1 when read."""
    if encoding != "latin1":
        raise ValueError(f"text encoded as {encoding} is not supported")
    return text.encode("latin1")


_GLOBALS = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.ndarray": object(),  # an argument of _reconstruct, never called
    "numpy.dtype": _Dtype,
    "_codecs.encode": _encode_latin1,
}


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, origin: str) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.origin = origin

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in _GLOBALS:
            shown = readable(wanted)
            raise UserError(
                f"{self.origin} is a pickle that asks for {shown}. Images need only NumPy arrays, "
                "and a pickle can run any code: it was refused and nothing was run. Do not trust "
                "this file; download the official one."
            )
        return _GLOBALS[wanted]
