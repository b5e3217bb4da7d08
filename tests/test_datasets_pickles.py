import os
import pickle

import numpy as np
import pytest
from helpers import archives

from svae.datasets.formats.pickles import unpickle_arrays
from svae.errors import UserError


@pytest.mark.parametrize(
    "batch",
    [archives.python2_batch, archives.numpy1_batch, archives.python3_batch],
)
def test_arrays_of_every_numpy_version_are_unpickled(batch):
    images = archives.numbered_images(3)
    content = batch(images)
    expected = np.frombuffer(b"".join(archives.planes(images)), np.uint8).reshape(3, 3072)
    # NumPy's own unpickling confirms the generated content.
    assert np.array_equal(pickle.loads(content, encoding="bytes")[b"data"], expected)
    data = unpickle_arrays(content, "batch")[b"data"]
    assert type(data) is np.ndarray
    assert data.dtype == np.uint8
    assert np.array_equal(data, expected)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False]),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype="<u2").reshape(2, 3)),
        np.float64([[1.5, -2.5]]),
    ],
    ids=["bool", "big endian", "column-major", "float"],
)
def test_any_numeric_array_survives(array, protocol):
    loaded = unpickle_arrays(pickle.dumps({"x": array, "y": [1, None]}, protocol), "batch")
    assert loaded["y"] == [1, None]
    assert loaded["x"].dtype == array.dtype
    np.testing.assert_array_equal(loaded["x"], array)


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def system_call(protocol):
    return lambda path: pickle.dumps({"data": Calls(os.system, f"touch {path}")}, protocol)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((system_call(protocol), "posix.system") for protocol in range(6)),
        (lambda path: pickle.dumps(Calls(eval, f"open({str(path)!r}, 'w')"), 2), "builtin.*eval"),
        (lambda path: pickle.dumps(Calls(np.save, path, np.zeros(1)), 2), "numpy"),
        (lambda path: b"\x80\x04\x8c\x05numpy\x8c\x07os.path\x93.", r"numpy\.os\.path"),
        (lambda path: pickle.dumps(Calls(getattr, "", "join"), 2), "getattr"),
        (lambda path: pickle.dumps({"data": np.uint8(3)}, 2), "scalar"),
        (lambda path: pickle.dumps({"data": 1 + 2j}, 2), "complex"),
    ],
)
def test_a_pickle_that_asks_for_more_is_refused_and_not_run(tmp_path, make, name):
    canary = tmp_path / "canary"
    with pytest.raises(UserError, match=rf"batch is a pickle that asks for \S*{name}"):
        unpickle_arrays(make(canary), "batch")
    assert not canary.exists()


DTYPE_BUILD = b"\x80\x02}X\x04\x00\x00\x00datacnumpy\nndarray\nK\x01\x85Rs."
NO_STATE = b"\x80\x02}K\x01cnumpy.core.multiarray\n_reconstruct\n)Rs."


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        archives.python3_batch(archives.numbered_images(1))[:500],
        pickle.dumps([1, 2]),
        DTYPE_BUILD,
        NO_STATE,
        pickle.dumps({1: Calls(__import__("_codecs").encode, "eval", "rot13")}, 2),
        archives.python3_batch(archives.numbered_images(1)).replace(b"M\x00\x0c", b"M\x01\x0c"),
    ],
    ids=[
        "empty",
        "text",
        "truncated",
        "list",
        "array called",
        "array without content",
        "other codec",
        "wrong shape",
    ],
)
def test_a_damaged_pickle_is_a_user_error(content):
    with pytest.raises(
        UserError, match=r"batch cannot be read as pickled arrays .+give another in"
    ):
        unpickle_arrays(content, "batch")


@pytest.mark.parametrize("operation", [b"r" + (1 << 27).to_bytes(4, "little"), b"p134217728\n"])
def test_a_large_memo_index_is_refused(operation):
    """The C unpickler would allocate memory for all lower indices."""
    with pytest.raises(UserError, match=r"memo index 134217728"):
        unpickle_arrays(b"\x80\x02}" + operation + b".", "batch")


@pytest.mark.parametrize("array", [np.array([None, {}], object), np.array(["text"])])
def test_arrays_of_anything_but_numbers_are_refused(array):
    with pytest.raises(UserError, match=r"arrays of type [OU]\d+ are not supported"):
        unpickle_arrays(pickle.dumps({"data": array}, 2), "batch")
