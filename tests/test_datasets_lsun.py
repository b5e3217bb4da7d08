import hashlib
import io
import mmap
import os
import random
import struct
import subprocess
import sys
import zipfile

import lmdb
import numpy as np
import pytest
from PIL import Image

from svae.datasets.readers import Raw, lsun
from svae.errors import UserError

LIMIT = 1 << 30
PAGE = mmap.PAGESIZE  # bytes; LMDB uses that of the operating system
BRANCH, LEAF, OVERFLOW = 1, 2, 4  # flags of pages


def entries(count, sizes=(800, 5000, 9000), seed=0):
    """Images by keys as in LSUN: noise of one of the sizes."""
    noise = random.Random(seed)
    return {
        hashlib.sha1(f"{seed} {number}".encode()).hexdigest().encode(): noise.randbytes(
            noise.choice(sizes)
        )
        for number in range(count)
    }


def database(folder, content, write=None):
    """The bytes of data.mdb as the LMDB library writes it; `write(env)` may write differently."""
    env = lmdb.open(str(folder), map_size=1 << 28, sync=False)
    if write:
        write(env)
    else:
        with env.begin(write=True) as transaction:
            for key, value in content.items():
                transaction.put(key, value)
    env.close()
    return (folder / "data.mdb").read_bytes()


def write_zip(path, content, name="bedroom_lmdb/data.mdb", **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("bedroom_lmdb/", b"")
        archive.writestr(name, content)
        archive.writestr("bedroom_lmdb/lock.mdb", bytes(8192))
    return path


@pytest.fixture
def make_raw(tmp_path):
    """Raw of the bytes of two databases."""
    small = database(tmp_path / "small", entries(3, (10,), seed=9))

    def make(train=small, val=small, limit=LIMIT):
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        files = {
            "train": write_zip(tmp_path / "train.zip", train),
            "val": write_zip(tmp_path / "val.zip", val),
        }
        return Raw(files, {"train": limit, "val": limit}, {"category": "bedroom"}, scratch)

    return make


def of_train(raw):
    return {
        name.encode(): content
        for _, name, content, _ in lsun.read(raw)
        if not name.startswith("val/")
    }


def expected_split(key):
    """By the definition: the first 64 bits of the SHA-256, as a number in [0, 1)."""
    number = int(hashlib.sha256(key).hexdigest()[:16], 16) / 16**16
    return "train" if number < 0.9 else "valid" if number < 0.95 else "test"


def test_every_image_is_yielded_once_in_its_split(tmp_path, make_raw):
    train, val = entries(400, (20,)), entries(30, (20,), seed=1)
    raw = make_raw(database(tmp_path / "train", train), database(tmp_path / "val", val))
    pictures = list(lsun.read(raw))
    assert pictures == [
        *(("test", f"val/{key.decode()}", val[key], "") for key in sorted(val)),
        *((expected_split(key), key.decode(), train[key], "") for key in sorted(train)),
    ]
    assert {split for split, *_ in pictures[len(val) :]} == {"train", "valid", "test"}
    assert list(raw.scratch.iterdir()) == []


def test_a_category_without_val_images(tmp_path, make_raw):
    train = entries(400, (20,))
    raw = make_raw(database(tmp_path / "train", train))
    del raw.files["val"]
    assert list(lsun.read(raw)) == [
        (expected_split(key), key.decode(), train[key], "") for key in sorted(train)
    ]
    assert raw.findings.split_rule.endswith("90 % train, 5 % valid, 5 % test")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_files_are_unchanged_images(tmp_path, make_raw, compression):
    images = {}
    for key in entries(5):
        pixels = np.random.default_rng(len(images)).integers(0, 256, (40, 60, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "WEBP", lossless=True)
        images[key] = pixels, file.getvalue()
    content = database(tmp_path / "db", {key: file for key, (_, file) in images.items()})
    raw = make_raw()
    write_zip(raw.files["train"], content, compression=compression)
    found = of_train(raw)
    assert set(found) == set(images)
    for key, content in found.items():
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), images[key][0])


def after_many_writes(env):
    """Pages are moved, freed and reused: values grow, shrink and are deleted."""
    noise = random.Random(3)
    for _ in range(20):
        with env.begin(write=True) as transaction:
            for _ in range(100):
                key = f"{noise.randrange(600):040x}".encode()
                if noise.random() < 0.3:
                    transaction.delete(key)
                else:
                    transaction.put(key, noise.randbytes(noise.choice([1, 2000, 5000, 30000])))


def most_deleted(env):
    content = entries(300)
    for keep in (300, 1):
        with env.begin(write=True) as transaction:
            for key, value in content.items():
                transaction.put(key, value)
            for key in list(content)[keep:]:
                transaction.delete(key)


@pytest.mark.parametrize(
    ("content", "write"),
    [
        (entries(1), None),
        (entries(1, (0,)), None),
        (entries(200, range(1990, 2050)), None),  # from here on LMDB uses separate pages
        (entries(40, range(PAGE - 20, PAGE + 20)), None),
        (entries(40, range(2 * PAGE - 20, 2 * PAGE + 20)), None),
        (entries(3, (3_000_000,)), None),
        (entries(20_000, (1,)), None),
        ({b"%0400d" % number: b"long key" for number in range(3000)}, None),
        (None, after_many_writes),
        (None, most_deleted),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_any_database_reads_as_with_the_lmdb_library(tmp_path, make_raw, content, write):
    mdb = database(tmp_path / "db", content, write)
    with (
        lmdb.open(str(tmp_path / "db"), readonly=True) as env,
        env.begin() as transaction,
    ):
        expected = list(transaction.cursor())
    assert list(of_train(make_raw(mdb)).items()) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"bedroom",
        b"<!DOCTYPE html><html>Quota exceeded</html>" * 1000,
        bytes(3 * PAGE),
        b"SQLite format 3\0" * 1000,
    ],
)
@pytest.mark.parametrize("role", ["train", "val"])
def test_other_files_are_refused(make_raw, role, content):
    raw = make_raw(**{role: content})
    with pytest.raises(
        UserError, match=rf"{role}\.zip: data\.mdb cannot be read as a database in LMDB"
    ):
        list(lsun.read(raw))
    assert list(raw.scratch.iterdir()) == []


def test_an_empty_database_is_refused(tmp_path, make_raw):
    with pytest.raises(UserError, match="0 images"):
        list(lsun.read(make_raw(database(tmp_path / "db", {}))))


def test_a_database_truncated_anywhere_is_refused(tmp_path, make_raw):
    content = entries(60, (100, 5000))
    mdb = database(tmp_path / "db", content)
    pages = len(mdb) // PAGE
    sizes = {page * PAGE + extra for page in range(pages) for extra in (0, 1, 20, 2000, PAGE - 1)}
    for size in sorted(sizes):
        # Only bytes after the end of the last image may be missing.
        lost = mdb[size:].strip(b"\0")
        if not lost:
            continue
        with pytest.raises(UserError, match=r"train\.zip: data\.mdb"):
            of_train(make_raw(mdb[:size]))


def test_damage_never_kills_and_never_hangs(tmp_path, make_raw):
    """In one of 30 such files the LMDB library ends the process with SIGBUS or SIGABRT."""
    mdb = database(tmp_path / "db", entries(60, (100, 5000)))
    refused = 0
    for seed in range(300):
        noise = random.Random(seed)
        damaged = bytearray(mdb)
        for _ in range(noise.choice([1, 20, 200])):
            # The positions of headers and pointers.
            place = noise.randrange(len(mdb) // PAGE) * PAGE + noise.randrange(64)
            damaged[place] = noise.randrange(256)
        try:
            of_train(make_raw(bytes(damaged)))
        except UserError:
            refused += 1
    assert refused > 100


def pages_of(mdb, kind):
    """The positions of the pages of a kind."""
    starts = range(2 * PAGE, len(mdb), PAGE)
    return [
        start
        for start in starts
        if struct.unpack_from("<QHH", mdb, start)[::2] == (start // PAGE, kind)
    ]


LARGE = b"the key of a large image"
SMALL = b"the key of a small image"


@pytest.fixture(scope="module")
def crafted(tmp_path_factory):
    """A tree of three levels, and the positions of its description and its root."""
    content = {
        **entries(20_000 * (PAGE // 4096) ** 2, (1,)),
        LARGE: bytes(3 * PAGE),
        SMALL: bytes(100),
    }
    mdb = database(tmp_path_factory.mktemp("crafted"), content)
    metas = [(struct.unpack_from("<Q", mdb, start + 144)[0], start) for start in (0, PAGE)]
    meta = max(metas)[1]
    root = struct.unpack_from("<Q", mdb, meta + 128)[0] * PAGE
    return mdb, meta, root


def put(mdb, place, code, *values):
    struct.pack_into(f"<{code}", mdb, place, *values)


def nodes(mdb, page):
    """The positions of the nodes of a page."""
    (end,) = struct.unpack_from("<H", mdb, page + 12)
    return [page + at for at in struct.unpack_from(f"<{(end - 16) // 2}H", mdb, page + 16)]


def child(mdb, node):
    return struct.unpack_from("<I", mdb, node)[0] * PAGE


def node_of(mdb, key):
    """The position of the node of a key in its leaf."""
    return next(
        node
        for leaf in pages_of(mdb, LEAF)
        for node in nodes(mdb, leaf)
        if mdb[node + 8 :].startswith(key)
    )


def all_branches_alike(mdb, meta, root):
    first = mdb[nodes(mdb, root)[0] :][:6]
    for node in nodes(mdb, root):
        mdb[node : node + 6] = first


def all_leaves_empty(mdb, meta, root):
    """A walk through branches that multiply would never reach an entry."""
    for leaf in pages_of(mdb, LEAF):
        put(mdb, leaf + 12, "H", 16)


def branch_into_itself(mdb, meta, root):
    """And 65,535 levels of it."""
    put(mdb, nodes(mdb, root)[0], "I", root // PAGE)
    put(mdb, meta + 94, "H", 65535)


def first_leaf(mdb, root):
    return child(mdb, nodes(mdb, child(mdb, nodes(mdb, root)[0]))[0])


def overflow(mdb):
    return struct.unpack_from("<Q", mdb, node_of(mdb, LARGE) + 8 + len(LARGE))[0] * PAGE


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (all_branches_alike, "not in order"),
        (all_leaves_empty, r"page \d+ is damaged"),
        (branch_into_itself, "65535 levels"),
        (lambda mdb, meta, root: put(mdb, meta + 40, "I", 0), "page size 0"),
        (lambda mdb, meta, root: put(mdb, meta + 40, "I", 1 << 31), "page size 2147483648"),
        (lambda mdb, meta, root: put(mdb, meta + 92, "H", 4), "flags 0x4"),
        (lambda mdb, meta, root: put(mdb, meta + 20, "I", 2), "LMDB file of format 1"),
        (lambda mdb, meta, root: put(mdb, meta + 128, "Q", 1 << 63), "cannot be read"),
        (lambda mdb, meta, root: put(mdb, meta + 128, "Q", (1 << 51) - 1), "cannot be read"),
        (lambda mdb, meta, root: put(mdb, nodes(mdb, root)[0] + 4, "H", 1), "is truncated"),
        (lambda mdb, meta, root: put(mdb, first_leaf(mdb, root), "Q", 9), "is damaged"),
        (lambda mdb, meta, root: put(mdb, first_leaf(mdb, root) + 10, "H", 1), "is damaged"),
        (lambda mdb, meta, root: put(mdb, first_leaf(mdb, root) + 12, "H", 65000), "is damaged"),
        (
            lambda mdb, meta, root: put(mdb, first_leaf(mdb, root) + 16, "H", PAGE - 1),
            "cannot be read",
        ),
        (lambda mdb, meta, root: put(mdb, node_of(mdb, SMALL), "H", PAGE + 1), "entry is damaged"),
        (lambda mdb, meta, root: put(mdb, node_of(mdb, SMALL) + 4, "H", 2), "entry is damaged"),
        (lambda mdb, meta, root: put(mdb, node_of(mdb, LARGE), "HH", 65535, 65535), "4294967295"),
        (lambda mdb, meta, root: put(mdb, overflow(mdb), "Q", 9), "pages of an image"),
        (lambda mdb, meta, root: put(mdb, overflow(mdb) + 10, "H", LEAF), "pages of an image"),
    ],
)
def test_inconsistent_structures_are_detected(make_raw, crafted, damage, problem):
    mdb, meta, root = crafted
    mdb = bytearray(mdb)
    damage(mdb, meta, root)
    with pytest.raises(UserError, match=rf"train\.zip: data\.mdb.*{problem}"):
        list(lsun.read(make_raw(bytes(mdb))))


def test_images_that_share_their_pages_are_refused(tmp_path, make_raw):
    """A small file could unpack to any number of bytes."""
    content = {**entries(50, (9000,)), b"the large one": bytes(3_000_000)}
    mdb = bytearray(database(tmp_path / "db", content))
    large = mdb.index(b"the large one")
    for key in set(content) - {b"the large one"}:
        place = mdb.index(key)
        mdb[place - 8 : place - 4] = mdb[large - 8 : large - 4]  # size
        mdb[place + 40 : place + 48] = mdb[large + 13 : large + 21]  # number of the first page
    pictures = lsun.read(make_raw(bytes(mdb)))
    with pytest.raises(UserError, match="more bytes than the file"):
        for _ in range(6):
            next(pictures)


def test_an_image_may_have_64_mib(tmp_path, make_raw):
    mdb = database(tmp_path / "db", {b"key": bytes(64 << 20)})
    assert of_train(make_raw(mdb)) == {b"key": bytes(64 << 20)}


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([], "0 files named data.mdb"),
        (["a/data.mdb", "b/data.mdb"], "2 files named data.mdb"),
        (["../data.mdb"], "data.mdb"),
        (["/data.mdb"], "data.mdb"),
    ],
)
def test_another_zip_archive_is_refused(tmp_path, make_raw, names, problem):
    raw = make_raw()
    with zipfile.ZipFile(raw.files["train"], "w") as archive:
        archive.writestr("holiday.jpg", b"...")
        for name in names:
            archive.writestr(name, b"...")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=rf"train\.zip.*{problem}"):
        list(lsun.read(raw))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_over_its_limit_is_refused(make_raw):
    raw = make_raw(limit=PAGE)
    with pytest.raises(UserError, match=f"more than {PAGE} bytes"):
        list(lsun.read(raw))


def test_too_little_disk_space_is_detected_before_unpacking(make_raw):
    raw = make_raw(limit=1 << 62)
    with zipfile.ZipFile(raw.files["train"], "w") as archive:
        archive.writestr("bedroom_lmdb/data.mdb", b"...")
        archive.infolist()[0].file_size = 4 * 10**17  # the size that the archive will declare
    with pytest.raises(UserError, match=r"needs 4000000\d\d\.\d GB of free disk space but has \d"):
        of_train(raw)
    assert list(raw.scratch.iterdir()) == []


def test_scratch_holds_one_database_at_a_time_and_none_at_the_end(tmp_path, make_raw):
    train, val = (database(tmp_path / name, entries(5)) for name in ("train", "val"))
    raw = make_raw(train, val)
    for _ in lsun.read(raw):
        assert len(list(raw.scratch.iterdir())) == 1
    assert list(raw.scratch.iterdir()) == []

    given_up = lsun.read(raw)
    next(given_up)
    given_up.close()
    assert list(raw.scratch.iterdir()) == []


def test_memory_does_not_grow_with_the_database(tmp_path, make_raw):
    raw = make_raw(database(tmp_path / "db", entries(800, (100_000,))))
    program = """
import resource, sys
from pathlib import Path
from svae.datasets.readers import lsun
from svae.datasets.readers import Raw
train, val, scratch = map(Path, sys.argv[1:])
raw = Raw(dict(train=train, val=val), dict(train=1 << 30, val=1 << 30), {}, scratch)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read = sum(len(image) for _, _, image, _ in lsun.read(raw))
print(read, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, raw.files["train"], raw.files["val"], raw.scratch],
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ,
    )
    read, grown = map(int, done.stdout.split())
    assert read > 80e6
    # Linux counts KiB, macOS bytes.
    assert grown * (1 if sys.platform == "darwin" else 1024) < 30e6
