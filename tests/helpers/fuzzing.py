"""Fuzzing of every reader of untrusted input, guided by coverage (atheris).

`TARGETS` has the readers, each with a few small inputs to start from. An input is a finding if the
reader raises anything but the errors that it documents, shows what a terminal would obey, takes
more than 20 seconds, fills the memory, or kills the process.

`fuzzed` fuzzes one of them. Inputs that were findings are kept in tests/corpus.
"""

import functools
import gzip
import io
import json
import lzma
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import h5py
import lmdb
import numpy as np
import scipy.io
import yaml
from PIL import Image

from helpers.archives import ZipMember, numpy1_batch, python2_batch, python3_batch, zip_bytes
from svae.config.resolve import resolve
from svae.config.yaml_file import check_file
from svae.datasets import SPLITS, origins, store_writer
from svae.datasets.formats import decoding
from svae.datasets.formats.archives import members
from svae.datasets.readers import BrokenImage, Raw, celeba, cifar10, lsun, mnist, svhn
from svae.datasets.store import Store
from svae.datasets.store_writer import Writer
from svae.datasets.verify import described
from svae.errors import UserError, readable
from svae.features import torch_weights
from svae.jobs.files import read_json, read_npz, write_json
from svae.training.history import read_history

CORPUS = Path(__file__).parent.parent / "corpus"  # inputs that were findings once, by target
PROGRAM = """
import sys
for name in ("tarfile", "zipfile", "pickletools"):  # so that they are imported again, instrumented
    sys.modules.pop(name, None)
import atheris
with atheris.instrument_imports(
    include=["svae", "tarfile", "zipfile", "pickletools", "yaml", "PIL", "gzip"]
):
    from helpers import fuzzing
fuzzing.fuzz(*sys.argv[1:])
"""
LIMIT = 1 << 20  # bytes that an archive may unpack to


class Target(NamedTuple):
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    """Reads the file `input`, next to which it may write."""
    wrap: Callable[[bytes], bytes] = bytes
    """Makes what is read of the fuzzer's bytes, such as right checksums, which it cannot guess."""


# Archives ---------------------------------------------------------------------------------------


def tar(mode="w", **options):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, **options) as archive:
        for name, content in {"a.png": b"one", "b" * 90 + "/" + "c" * 90: b"two"}.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(content), {"comment": "x"}
            archive.addfile(info, io.BytesIO(content))
    content = file.getvalue()
    return content[: len(content.rstrip(b"\0")) // 512 * 512 + 1536] if mode == "w" else content


def with_tar_checksums(content):
    content = bytearray(content)
    for start in range(0, len(content) - 511, 512):
        header = content[start : start + 512]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return bytes(content)


def zips():
    plain = [ZipMember("a.png", b"one"), ZipMember("b/c.png", b"two" * 50, deflated=True)]
    false = [ZipMember(b"\xff", b"one", size=9), ZipMember("../d", b"", mode=0o120777)]
    return [zip_bytes(plain), zip_bytes(false), zip_bytes([ZipMember("a", b"1", flags=1)])]


def read_members(path):
    for _ in members(path, lambda name: not name.endswith("c"), LIMIT, LIMIT):
        pass


# Data sets --------------------------------------------------------------------------------------


@functools.cache
def pictures(count, side, channels):
    shape = (count, side, side, channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def idx():
    content = b"\0\0\x08\x03\0\0\0\2\0\0\0\x1c\0\0\0\x1c" + pictures(2, 28, 1).tobytes()
    labels = b"\0\0\x08\x01\0\0\0\2\3\4"
    return [content, gzip.compress(content), labels, gzip.compress(labels)]


def read_mnist(path):
    good = path.with_name("good")
    good.write_bytes(idx()[0])
    limits = dict.fromkeys(("train_images", "test_images"), LIMIT)
    for files in (
        {"train_images": path, "test_images": path},
        {"train_images": good, "test_images": good, "train_labels": path, "test_labels": good},
    ):
        try:
            for _ in mnist.read(Raw(files, limits)):
                pass
        except UserError as error:
            check_shown(error)


def mat_files():
    variables = {"X": pictures(1, 32, 3).transpose(1, 2, 3, 0), "y": np.ones((1, 1), np.uint8)}
    found = []
    for compressed in (False, True):
        file = io.BytesIO()
        scipy.io.savemat(file, variables, do_compression=compressed)
        found.append(file.getvalue())
    return found


def read_svhn(path):
    for _ in svhn.read(Raw({"train": path, "test": path}, {"train": LIMIT, "test": LIMIT})):
        pass


def databases():
    found = []
    for values in ([b"one", b"two"], [bytes(5000)], [b"one"] * 300):
        with tempfile.TemporaryDirectory() as folder:
            with (
                lmdb.open(folder, map_size=1 << 20, sync=False) as environment,
                environment.begin(write=True) as transaction,
            ):
                for number, value in enumerate(values):
                    transaction.put(b"%036d" % number, value)
            found.append(Path(folder, "data.mdb").read_bytes())
    return found


def in_zip(name):
    return lambda content: zip_bytes([ZipMember(name, content)])


def read_lsun(path):
    for _ in lsun.read(Raw({"train": path}, {"train": LIMIT}, scratch=path.parent)):
        pass


def partitions():
    texts = ["000001.jpg 0\n000002.jpg 1\r\n\n", "\ufeffimage_id,partition\n000001.jpg , 2\n"]
    return [text.encode() for text in texts]


def batches():
    made = [write(pictures(1, 32, 3)) for write in (python2_batch, python3_batch, numpy1_batch)]
    return [*made, pickle.dumps({b"data": np.zeros((0, 3072), np.uint8)}, protocol=0)]


# Images -----------------------------------------------------------------------------------------

KINDS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "RGB", "RGBA", "I;16", "CMYK", "F"),
    "BMP": ("1", "L", "RGB"),
    "GIF": ("L", "P"),
    "PPM": ("1", "L", "RGB"),
    "AVIF": ("RGB",),
}


def image_files():
    found = []
    for kind, modes in KINDS.items():
        for mode in modes:
            file = io.BytesIO()
            Image.new(mode, (6, 5)).save(file, kind)
            found.append(file.getvalue())
    file = io.BytesIO()
    turned = Image.Exif()
    turned[274] = 6  # orientation
    Image.new("RGB", (6, 5)).save(file, "PNG", transparency=(0, 0, 0), exif=turned)
    return [*found, file.getvalue()]


def with_png_checksums(content):
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    content, start = bytearray(content), 8
    while start + 12 <= len(content):
        size = int.from_bytes(content[start : start + 4], "big")
        end = start + 8 + size
        if end + 4 <= len(content):
            content[end : end + 4] = zlib.crc32(content[start + 4 : end]).to_bytes(4, "big")
        start = end + 4
    return bytes(content)


def decode(path):
    content = path.read_bytes()
    for recipe in (
        decoding.Recipe("square", 4, 3),
        decoding.Recipe(None, None, 1),
        decoding.Recipe(3, None, 3),
    ):
        try:
            image = decoding.prepare(content, recipe)
        except BrokenImage as problem:
            check_shown(problem)
        else:
            assert image.dtype == np.uint8 and image.shape[2] == recipe.channels


# Settings, weights, files of this program ---------------------------------------------------------


def settings():
    variants = "dataset: mnist_5k\nvariants:\n  a: {posterior: naive}\n"
    texts = [
        variants,
        variants + "training: {epochs: 3, kl_weight: [1, 2]}\nseeds: [1]\n",
        "a: &a [1, 2.5, true, null, 2020-01-01, '\u00e9']\nb: *a\n<<: {c: !!str x}\n? [d]\n: e\n",
        "[" * 400,
        "? " * 400,
    ]
    return [text.encode() for text in texts]


def read_settings(path):
    check_file(path)
    resolve(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent)


def weights():
    """As PyTorch's legacy format has them; the names are put in as text by protocol 0."""
    storage = b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nL4L\nNtQ"  # a persistent id
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"L0L\n(L2L\nL2L\nt(L2L\nL1L\ntI00\ntR"
    )
    state = b"ccollections\nOrderedDict\n(tR(Vweight\n" + tensor + b"u."
    head = [torch_weights.MAGIC, torch_weights.PROTOCOL, {"little_endian": True}]
    pickles = b"".join(pickle.dumps(value, protocol=2) for value in head)
    numbers = (4).to_bytes(8, "little") + np.arange(4, dtype="<f4").tobytes()
    return [pickles + state + pickle.dumps(["0"], protocol=2) + numbers]


@functools.cache
def keras_parts():
    """The files in a small Keras model's zip archive."""
    import keras

    with tempfile.TemporaryDirectory() as folder:
        layers = [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()]
        keras.Sequential(layers).save(Path(folder, "a.keras"))
        with zipfile.ZipFile(Path(folder, "a.keras")) as file:
            return {name: file.read(name) for name in file.namelist()}


def keras_configs():
    return [keras_parts()["config.json"], b"[" * 3000, b'{"class_name": "Lambda"}']


def as_keras_model(content):
    parts = {**keras_parts(), "config.json": content}
    return zip_bytes([ZipMember(name, value) for name, value in parts.items()])


def read_keras_model(path):
    from svae.features import network

    network._load(path.rename(path.with_name("own.keras")))  # the suffix counts


def json_files():
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder, "a.json"), {"a": [1, 0.5, None, True], "b": {"c": "\u00e9"}})
        own = Path(folder, "a.json").read_bytes()
    return [own, b'{"a": 1e999, "b": NaN}\n{"c": 1}', b"[" * 3000, b'{"a":' * 3000]


def read_texts(path):
    path.with_name("history.jsonl").write_bytes(path.read_bytes())
    for read in (read_json, lambda path: read_history(path.parent)):
        try:
            read(path)
        except UserError as error:
            check_shown(error)


def arrays():
    found = []
    for array in (np.arange(3.0), np.zeros((0, 2), np.uint8), np.array("text"), np.array([{}])):
        file = io.BytesIO()
        np.save(file, array)
        found.append(file.getvalue())
    endless = found[0].replace(b"(3,), }         ", b"(30000000000,), }")
    assert endless != found[0]
    return [*found, endless]


def stores():
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.h5")
        with mock.patch.object(store_writer, "CHUNK_BYTES", 64), Writer(path) as writer:
            for split in SPLITS:
                writer.append(split, pictures(2, 4, 1), ["a", "\u00e9"], ["", "cat"])
            writer.finish({"padding": 0, "list": ["x"], "none": None})
        found.append(path.read_bytes())
        for version in ("earliest", "latest"):
            with h5py.File(path, "w", libver=version) as file:
                for split in SPLITS:
                    file[split] = pictures(2, 4, 1)
                file.attrs.update({"padding": 0, "checksum": "ab"})
                file.flush()
                found.append(path.read_bytes())
                del file["test"]
                file.create_dataset("test", (1 << 40, 4, 4, 1), np.uint8, chunks=(9, 4, 4, 1))
                file.attrs["list"] = "[" * 3000
            found.append(path.read_bytes())
    return found


def with_ends_of_heaps(content):
    """HDF5 2.0 loops for ever where the free space at the end of a heap of texts claims 0 bytes."""
    content, heap = bytearray(content), 0
    while (heap := content.find(b"GCOL", heap + 1)) > 0:
        place = heap + 16
        while place + 16 <= len(content):
            number, size = struct.unpack_from("<H6xQ", content, place)
            if number == 0:
                size = max(size, 16)
                struct.pack_into("<Q", content, place + 8, size)
            place += size if number == 0 else 16 + (size + 7) // 8 * 8
    return bytes(content)


def read_store(path):
    with Store(path) as store:
        for split in SPLITS:
            store.images(split)
            origins.names(store, split)
            origins.labels(store, split, [0])


def pages():
    start = b"<!DOCTYPE html><html><head><title>Quota &amp; &#27;[31m\xc2\x9b</title>"
    return [start, b"\xef\xbb\xbf<html><title lang=en>" + b"x" * 100, b"no page"]


def check_shown(error):
    """AssertionError if the text of an error has what a terminal would obey."""
    for line in str(error).splitlines():
        assert line == readable(line), f"shown: {line!a}"


TARGETS = {
    "tar": Target(
        lambda: [tar(format=kind) for kind in range(3)], read_members, with_tar_checksums
    ),
    "compressed tar": Target(
        lambda: [tar("w:gz"), tar("w:bz2"), tar("w:xz"), lzma.compress(tar()) * 2], read_members
    ),
    "zip": Target(zips, read_members),
    "idx": Target(idx, read_mnist),
    "mat": Target(mat_files, read_svhn),
    "lmdb": Target(databases, read_lsun, in_zip("data.mdb")),
    "partition": Target(partitions, lambda path: celeba._partition(path, LIMIT)),
    "cifar10 batch": Target(batches, lambda path: cifar10._python(path.read_bytes(), "a")),
    "image": Target(image_files, decode, with_png_checksums),
    "settings": Target(settings, read_settings),
    "torch weights": Target(weights, lambda path: torch_weights.tensors(path.read_bytes(), "a")),
    "keras config": Target(keras_configs, read_keras_model, as_keras_model),
    "keras file": Target(
        lambda: [zip_bytes([ZipMember("config.json", b'{"class_name": "Lambda"}')])],
        read_keras_model,
    ),
    "json": Target(json_files, read_texts),
    "npz": Target(arrays, read_npz, in_zip("a.npy")),
    "store": Target(stores, read_store, with_ends_of_heaps),
    "web page": Target(pages, lambda path: described(path, {})),
}


# Fuzzing ------------------------------------------------------------------------------------------


def problem(name, content, folder):
    """What a reader does wrong with this input; None if nothing. `folder`: for files."""
    target, path = TARGETS[name], Path(folder, "input")
    path.write_bytes(target.wrap(content))
    try:
        target.read(path)
    except (UserError, BrokenImage) as error:
        try:
            check_shown(error)
        except AssertionError as shown:
            return str(shown)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)
        own = next((frame for frame in reversed(place) if "svae" in frame.filename), place[-1])
        return f"{type(error).__name__} in {own.name}: {readable(str(error))[:200]}"
    return None


def fuzz(name, seconds, folder, scratch):
    """Fuzz one reader; a finding of each kind goes to FOLDER/findings, one line of JSON."""
    import atheris

    folder, found = Path(folder), set()
    decoding.MOST_PIXELS = 1 << 20  # so that an input takes little time
    inputs = folder / "inputs"
    inputs.mkdir()
    for number, seed in enumerate(inputs_of(name)):
        (inputs / f"{number}").write_bytes(seed)

    def one(content):
        text = problem(name, content, scratch)
        kind = text and text.split(":")[0]
        if kind and kind not in found:
            found.add(kind)
            with (folder / "findings").open("a") as file:
                file.write(json.dumps({"problem": text, "input": content.hex()}) + "\n")

    for seed in inputs_of(name):  # what is imported or kept at first takes its time
        one(seed)
    longest = max(8192, *(path.stat().st_size for path in inputs.iterdir()))
    limits = f"-timeout=20 -rss_limit_mb=3000 -max_len={longest}".split()
    artifacts = f"-artifact_prefix={folder}/killed-by-"
    options = [f"-max_total_time={seconds}", "-print_final_stats=1", artifacts, *limits]
    atheris.Setup([sys.argv[0], *options, str(inputs)], one)
    atheris.Fuzz()


def inputs_of(name):
    """What a target starts from: its seeds, and what was found before."""
    return [*TARGETS[name].seeds(), *(path.read_bytes() for path in corpus(name))]


def corpus(name):
    return sorted((CORPUS / name.replace(" ", "-")).glob("*"))


def fuzzed(name, seconds, folder):
    """Fuzz one reader in a process of its own: (number of inputs, findings)."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else folder) as scratch:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, name, str(seconds), folder, scratch],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    findings = [json.loads(line) for line in _lines(folder / "findings")]
    if done.returncode:
        findings.append({"problem": done.stderr[-3000:], "input": "see " + str(folder)})
    count = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    return int(count[1]) if count else 0, findings


def _lines(path):
    return path.read_text().splitlines() if path.exists() else []
