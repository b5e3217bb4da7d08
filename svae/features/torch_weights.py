"""Weights that PyTorch saved in its legacy format, read without PyTorch and without running code.

Such a file is a sequence of pickles, followed by the numbers:

    magic number, protocol version, sizes of types      three pickles
    the state: name -> tensor                           a pickle; a tensor names its storage
    the keys of the storages                            a pickle, a list in the order of the file
    each storage: its length (8 bytes), its numbers     no pickle

A pickle may call whatever it names. Only four names are accepted, and each is replaced by a
stand-in: ordered dicts, tensors, and storages of float32 and int64.
"""

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from svae.errors import UserError, readable
from svae.jobs.files import file_hash

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read(path: Path | str, sha256: str) -> dict[str, np.ndarray]:
    """The tensors of a file by name: float32 and int64 arrays, in PyTorch's order of axes.

    UserError if the file does not have this checksum (nothing is then unpickled), names anything
    but tensors, or is damaged.
    """
    found = file_hash(path)
    if found != sha256:
        raise UserError(
            f"{path} has SHA-256 {found}, but these weights have {sha256}: the file is damaged or "
            f"another one; install its package again"
        )
    return tensors(Path(path).read_bytes(), str(path))


def tensors(content: bytes, origin: str) -> dict[str, np.ndarray]:
    """The same from the bytes of a file; `origin` is its name in messages."""
    try:
        file = io.BytesIO(content)
        magic, protocol, sizes, state, keys = (_unpickled(file, origin) for _ in range(5))
        if (magic, protocol) != (MAGIC, PROTOCOL) or not sizes["little_endian"]:
            raise ValueError("it is not of PyTorch's legacy format, with the lowest byte first")
        storages = _storages(file, keys, state)
        return {name: tensor.array(storages) for name, tensor in state.items()}
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = readable(str(error))
        raise UserError(f"{origin} cannot be read as weights of PyTorch ({reason})") from error


class _Dict(dict[str, Any]):
    """Stand-in for collections.OrderedDict: without the attributes that PyTorch gives it."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    length: int


class _Tensor(NamedTuple):
    """Stand-in for a tensor: a storage, and where its numbers are in it, as for NumPy's strides but
    in numbers, not in bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        numbers = storages[self.storage.key]
        steps = list(zip(self.shape, self.strides, strict=True))
        last = self.offset + sum((length - 1) * stride for length, stride in steps)
        whole = all(length > 0 and stride >= 0 for length, stride in steps)
        if not whole or self.offset < 0 or last >= len(numbers):
            raise ValueError(f"a tensor of shape {self.shape} is not within its storage")
        if math.prod(self.shape) > len(numbers):
            raise ValueError(f"a tensor of shape {self.shape} has more numbers than its storage")
        size = numbers.itemsize
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.shape, [stride * size for stride in self.strides]
        )
        return np.ascontiguousarray(view).reshape(self.shape)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_GLOBALS = {
    "collections.OrderedDict": _Dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.LongStorage": np.dtype("<i8"),
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, origin: str) -> None:
        super().__init__(file, encoding="utf-8")
        self.origin = origin

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in _GLOBALS:
            raise UserError(
                f"{self.origin} is a pickle that asks for {readable(wanted)}. Weights need only "
                "tensors, and a pickle can run any code: it was refused and nothing was run."
            )
        return _GLOBALS[wanted]

    def persistent_load(self, pid: Any) -> _Storage:
        """("storage", type, key, device, how many numbers, None)"""
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise ValueError(f"a storage of kind {kind} is not supported")
        return _Storage(key, dtype, count)


def _unpickled(file: io.BytesIO, origin: str) -> Any:
    """The next pickle. ValueError for a memo index that no genuine one has: the unpickler allocates
    memory for all lower ones."""
    start, size = file.tell(), len(file.getbuffer())
    argument: Any
    for operation, argument, _ in pickletools.genops(file):
        if operation.name.endswith("PUT") and int(argument) > size:
            raise ValueError(f"memo index {argument}")
    file.seek(start)
    return _Unpickler(file, origin).load()


def _storages(file: io.BytesIO, keys: list[str], state: dict[str, Any]) -> dict[str, np.ndarray]:
    """The numbers of every storage, by its key."""
    declared = {tensor.storage.key: tensor.storage for tensor in state.values()}
    found = {}
    for key in keys:
        storage = declared[key]
        (count,) = np.frombuffer(file.read(8), "<i8").tolist()
        content = file.read(storage.length * storage.dtype.itemsize)
        numbers = np.frombuffer(content, storage.dtype)
        if not count == storage.length == len(numbers):
            raise ValueError(f"storage {key} has {len(numbers)} numbers, not {storage.length}")
        found[key] = numbers
    return found
