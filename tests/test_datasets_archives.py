import errno
import gzip
import io
import lzma
import os
import random
import stat
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from helpers import archives
from helpers.archives import KINDS, TAR_MODES, ZipMember, pack

from svae.datasets.formats.archives import members
from svae.datasets.formats.untrusted import damaged
from svae.datasets.formats.zip_file import checked_zip, zip_content
from svae.datasets.readers import BrokenImage, Raw, celeba, cifar10, images
from svae.errors import UserError

LIMIT = 1 << 20
CONTENTS = {
    "folder/b": bytes(range(256)) * 100,
    "folder/a": b"alpha",
    "./c//d/./e": b"nested",
    "empty": b"",
    "other": b"no",
    "folder/.hidden": b"no",
    ".git/a": b"no",
    "__MACOSX/folder/a": b"no",
    "Übung/ß.jpg": b"accents",
}
WANTED = {
    "folder/b": CONTENTS["folder/b"],
    "folder/a": b"alpha",
    "c/d/e": b"nested",
    "empty": b"",
    "Übung/ß.jpg": b"accents",
}


def wanted(name):
    return not name.endswith("other")


def anything(name):
    return True


def read_all(path, limit=LIMIT, **options):
    return list(members(path, anything, limit, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_wanted_files_have_relative_names(tmp_path, kind):
    found = list(members(pack(tmp_path / "data", CONTENTS, kind), wanted, LIMIT))
    expected = list(WANTED.items())
    assert found == (expected if kind in TAR_MODES else sorted(expected))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("limit", "refused"), [(100, False), (99, True)])
def test_a_file_above_the_limit_is_refused(tmp_path, kind, limit, refused):
    path = pack(tmp_path / "data", {"big": bytes(100), "bigger": bytes(101)}, kind)
    found = members(path, lambda name: name == "big", LIMIT, member_limit=limit)
    if refused and kind == "folder":
        ((name, problem),) = found
        assert name == "big" and "100 bytes, more than the limit of 99" in str(problem)
    elif refused:
        with pytest.raises(
            UserError, match=r"data: 'big' has 100 bytes, more than the limit of 99"
        ):
            list(found)
    else:
        assert list(found) == [("big", bytes(100))]


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("refused", [False, True])
def test_an_archive_above_the_limit_is_refused_whatever_is_wanted(tmp_path, kind, refused):
    path = pack(tmp_path / "data", {"a": bytes(30_000), "b": bytes(30_000)}, kind)
    # The headers of a tar archive count, padded to records of 10,240 bytes.
    size = 71_680 if kind in TAR_MODES else 60_000
    if refused:
        with pytest.raises(UserError, match=rf"data unpacks to more than {size - 1} bytes"):
            list(members(path, lambda name: False, size - 1))
    else:
        assert list(members(path, lambda name: False, size)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_or_folder_without_files_is_refused(tmp_path, kind):
    path = pack(tmp_path / "data", {}, kind)
    with pytest.raises(UserError, match=r"data contains no files"):
        read_all(path)


@pytest.mark.parametrize("size", [-1, -512])
def test_a_tar_member_of_negative_size_is_refused(tmp_path, size):
    """Written by hand: the base-256 encoding of a header's size, which may be negative."""
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size.to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + b"x" * 2048 + bytes(1024))
    with pytest.raises(UserError, match=r"a\.tar cannot be read as a tar archive"):
        read_all(path)


def test_a_tar_of_headers_without_end_is_refused(tmp_path):
    """tarfile recurses for each header that announces another one."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 2
    path = tmp_path / "a.tar"
    path.write_bytes((name.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")) * 3000)
    with pytest.raises(UserError, match=r"a\.tar cannot be read as a tar archive"):
        read_all(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent cannot be read \(No such file or directory\)"):
        read_all(tmp_path / "absent")


# --- folders ---


def test_links_are_followed_and_each_folder_is_entered_once(tmp_path):
    root = pack(tmp_path / "root", {"m/1": b"1", "m/n/2": b"2"}, "folder")
    outside = pack(tmp_path / "outside", {"3": b"3", "deep/4": b"4"}, "folder")
    (root / "m" / "loop").symlink_to(root)
    (root / "a-link-that-sorts-first").symlink_to(root / "m")
    (root / "x").symlink_to(outside)
    (root / "y").symlink_to(outside)
    (root / "5").symlink_to(outside / "3")
    assert read_all(root) == [
        ("5", b"3"),
        ("m/1", b"1"),
        ("m/n/2", b"2"),
        ("x/3", b"3"),
        ("x/deep/4", b"4"),
    ]


def test_a_wanted_name_that_is_not_a_regular_file_is_named(tmp_path):
    root = pack(tmp_path / "root", {"a": b"1"}, "folder")
    (root / "broken").symlink_to(tmp_path / "absent")
    os.mkfifo(root / "pipe")
    assert list(members(root, lambda name: name == "a", LIMIT)) == [("a", b"1")]
    found = {name: content for name, content in read_all(root) if name != "a"}
    assert all(isinstance(content, BrokenImage) for content in found.values())
    assert {name: str(content) for name, content in found.items()} == {
        "broken": "cannot be read (No such file or directory)",
        "pipe": "not a regular file",
    }


def test_names_that_are_not_utf8_become_text(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / os.fsdecode(b"f\xfcr\n")).write_bytes(b"1")
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(root, "root")
    assert read_all(root) == [("f\\xfcr\\x0a", b"1")]
    assert read_all(path) == [("root/f\\xfcr\\x0a", b"1")]


# --- memory ---


def peak_of(function):
    """The peak memory of the function, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_members(tmp_path):
    path = pack(tmp_path / "data", {f"{i}": b"content" for i in range(4000)}, "tar")
    # By default, tarfile keeps 600 bytes per member.
    assert peak_of(lambda: sum(1 for _ in members(path, anything, 100 * LIMIT))) < 2 << 20


@pytest.mark.parametrize("kind", ["deflated", *TAR_MODES])
def test_memory_is_bounded_whatever_the_size_of_a_member(tmp_path, kind):
    path = tmp_path / "data"
    zeros = bytes(40 << 20)
    if kind == "deflated":
        path.write_bytes(archives.zip_bytes([ZipMember("a", zeros, True, size=1000)]))
    else:
        pack(path, {"a": zeros}, kind)
    del zeros

    def read():
        with pytest.raises(UserError):
            list(members(path, lambda name: kind == "deflated", LIMIT))

    assert peak_of(read) < 20 << 20


def test_memory_is_bounded_whatever_a_header_claims(tmp_path):
    header = tarfile.TarInfo("a")
    header.type, header.size = tarfile.XHDTYPE, 40 << 20
    path = tmp_path / "data"
    path.write_bytes(gzip.compress(header.tobuf() + bytes(header.size), 1))

    def read():
        with pytest.raises(UserError, match=r"data cannot be read as a tar archive \(a header of"):
            read_all(path, limit=1 << 30)

    assert peak_of(read) < 5 << 20


def test_an_xz_archive_that_needs_gigabytes_to_unpack_is_refused(tmp_path):
    plain = archives.write_tar(tmp_path / "plain", {"a": b"1"}, "w").read_bytes()
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    packed = bytearray(lzma.compress(plain, filters=filters))
    path = tmp_path / "data"
    path.write_bytes(packed)
    assert read_all(path) == [("a", b"1")]
    # The block header: its size, flags, the filter, the size of its properties, the dictionary.
    assert packed[14:16] == b"\x21\x01"
    packed[16] = 39  # 3 GiB
    packed[20:24] = zlib.crc32(packed[12:20]).to_bytes(4, "little")
    path.write_bytes(packed)
    with pytest.raises(UserError, match=r"data cannot be read as a tar archive \(Memory usage"):
        read_all(path)


# --- hostile archives, by every reader that takes such an archive ---

FACE = "img_align_celeba/000004.jpg"  # a member that every reader of zip archives reads
FACES = {f"img_align_celeba/{number:06d}.jpg": bytes([number]) * 500 for number in (1, 2, 3)}
READERS = {
    "images zip": (images, "zip", {"a.jpg": b"1" * 500, "b/c.png": b"2"}),
    "images tar": (images, "tar", {"a.jpg": b"1" * 500, "b/c.png": b"2"}),
    "celeba": (celeba, "zip", FACES),
    "cifar10": (
        cifar10,
        "tar",
        archives.cifar_members(archives.numbered_images(10), archives.numbered_images(2)),
    ),
}
ZIP_READERS = [name for name, (_, kind, _) in READERS.items() if kind == "zip"]
TAR_READERS = [name for name, (_, kind, _) in READERS.items() if kind == "tar"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder, and next to it files that an archive could try to reach."""
    (tmp_path / "secret").write_bytes(b"secret")
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    return inner


def tree(folder):
    return {
        path: (path.lstat().st_mode, path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in folder.rglob("*")
    }


def raw(place, path):
    partition = place / "partition.txt"
    partition.write_text("".join(f"{number:06d}.jpg 0\n" for number in (1, 2, 3, 4)))
    return Raw({"archive": path, "partition": partition}, {"archive": LIMIT, "partition": LIMIT})


@pytest.mark.parametrize("reader", READERS)
def test_the_archives_below_are_read_without_the_attack(place, reader):
    module, kind, contents = READERS[reader]
    path = pack(place / "archive", {**contents, FACE: b"4"}, kind)
    pictures = list(module.read(raw(place, path)))
    assert len(pictures) == (12 if module is cifar10 else len(contents) + 1)


def refused(place, reader, path, message):
    """The reader refuses the archive with that message, and changes no file."""
    given = raw(place, path)
    before = tree(place.parent)
    pictures = []
    with pytest.raises(UserError, match=message) as error:
        pictures.extend(READERS[reader][0].read(given))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert tree(place.parent) == before
    assert all(np.all(picture.content != b"secret") for picture in pictures)


OUTSIDE = "a path that may lead outside"
BAD_NAMES = [
    "/etc/x.jpg",
    "{outside}/x.jpg",
    "../x.jpg",
    "a/../../x.jpg",
    "a/..",
    "..",
    "../",
    "..\\x.jpg",
    "a\\x.jpg",
    "C:/x.jpg",
    "c:x.jpg",
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_outside(place, reader, name):
    _, kind, contents = READERS[reader]
    name = name.format(outside=place.parent)
    path = pack(place / "archive", {**contents, name: b"evil"}, kind)
    refused(place, reader, path, rf"archive contains .*{OUTSIDE}")


@pytest.mark.parametrize("reader", ZIP_READERS)
def test_a_name_that_two_programs_read_differently(place, reader):
    # Python's zipfile ends the name at the NUL.
    bad = ZipMember("x.jpg\0/../../y.jpg", b"evil")
    refused(place, reader, write_zip_with(place, reader, bad), rf"archive contains .*{OUTSIDE}")


def write_zip_with(place, reader, *added):
    contents = READERS[reader][2]
    path = place / "archive"
    good = [ZipMember(name, content) for name, content in contents.items()]
    path.write_bytes(archives.zip_bytes([*good, *added]))
    return path


BAD_ZIP_MEMBERS = {
    "link": ([ZipMember(FACE, b"../secret", mode=stat.S_IFLNK | 0o777)], "is a link or a device"),
    "link to a folder": ([ZipMember("x", b"..", mode=stat.S_IFLNK)], "is a link or a device"),
    "character device": ([ZipMember("x", mode=stat.S_IFCHR)], "is a link or a device"),
    "block device": ([ZipMember("x/", mode=stat.S_IFBLK)], "is a link or a device"),
    "pipe": ([ZipMember("x", mode=stat.S_IFIFO)], "is a link or a device"),
    "encrypted": ([ZipMember(FACE, b"?" * 20, flags=0x801)], "is encrypted"),
    "strongly encrypted": ([ZipMember(FACE, b"?" * 20, flags=0x841)], "is encrypted"),
    "twice": ([ZipMember(FACE, b"1"), ZipMember(FACE, b"2")], "contains '.*000004.jpg' twice"),
    "twice in disguise": (
        [ZipMember(FACE, b"1"), ZipMember(f"./{FACE}", b"2")],
        "contains '.*000004.jpg' twice",
    ),
    "bzip2": ([ZipMember(FACE, b"?", method=12)], "by a method other than deflate"),
    "lzma": ([ZipMember(FACE, b"?", method=14)], "by a method other than deflate"),
    "unknown method": ([ZipMember(FACE, b"?", method=97)], "by a method other than deflate"),
    "patch": ([ZipMember(FACE, b"?", flags=0x820)], "cannot be read as a zip archive"),
    "too much together": (
        [ZipMember("x", b"?", size=LIMIT), ZipMember(FACE)],
        f"unpacks to more than {LIMIT} bytes",
    ),
    "4 GiB": ([ZipMember(FACE, b"?", True, size=0xFFFFFFFE)], "unpacks to more than"),
    "overlap": ([ZipMember(FACE, b"?", offset=0)], "overlapping members"),
    "outside the file": ([ZipMember(FACE, b"?", offset=1 << 30)], "cannot be read as a zip"),
    "larger than declared": (
        [ZipMember(FACE, bytes(1000), True, size=10)],
        "unpacks to more than its declared 10 bytes",
    ),
    "larger than declared, with a checksum that fits": (
        [ZipMember(FACE, bytes(1000), True, size=10, crc=zlib.crc32(bytes(10)))],
        "unpacks to more than its declared 10 bytes|Bad CRC-32",
    ),
    "larger than declared, stored, with a checksum that fits": (
        [ZipMember(FACE, bytes(1000), size=10, crc=zlib.crc32(bytes(10)))],
        "unpacks to more than its declared 10 bytes|Bad CRC-32",
    ),
    "smaller than declared": (
        [ZipMember(FACE, bytes(10), True, size=1000)],
        "unpacks to less than its declared 1000 bytes",
    ),
    "wrong checksum": ([ZipMember(FACE, b"abc", crc=1)], r"cannot be .* \(Bad CRC-32 for file"),
    "not deflated at all": (
        [ZipMember(FACE, b"\xff" * 100, method=8, size=1000)],
        r"cannot be read as a zip archive \(Error -3 while decompressing",
    ),
    "name that is no text": (
        [ZipMember(b"\xff\xfe.jpg", b"abc")],
        r"cannot be read as a zip archive \('utf-8' codec can't decode",
    ),
}


@pytest.mark.parametrize("reader", ZIP_READERS)
@pytest.mark.parametrize("case", BAD_ZIP_MEMBERS)
def test_zip_members_that_no_honest_archive_has(place, reader, case):
    added, message = BAD_ZIP_MEMBERS[case]
    path = write_zip_with(place, reader, *added)
    refused(place, reader, path, message)


def write_tar_with(place, reader, added, mode="w"):
    """`added`: (TarInfo, content); the header is written unchanged, whatever the content."""
    path = archives.write_tar(place / "archive", READERS[reader][2], mode)
    with tarfile.open(path) as tar:
        good = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, mode) as tar:
        for member, content in [*good, *added]:
            tar.fileobj.write(member.tobuf() + content + bytes(-len(content) % 512))
    return path


def entry(kind, content=b"", name="x.jpg", **attributes):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(content)
    for key, value in attributes.items():
        setattr(member, key, value)
    return member, content


SPARSE_MAP = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000000"}
BAD_TAR_MEMBERS = {
    "link": ([entry(tarfile.SYMTYPE, linkname="../secret")], "'x.jpg' is a symbolic link"),
    "link that is then written through": (
        [
            entry(tarfile.SYMTYPE, name="x", linkname=".."),
            entry(tarfile.REGTYPE, b"evil", "x/secret"),
        ],
        "'x' is a symbolic link",
    ),
    "hard link": ([entry(tarfile.LNKTYPE, linkname="../secret")], "'x.jpg' is a hard link"),
    "hard link inside": ([entry(tarfile.LNKTYPE, linkname="a.jpg")], "'x.jpg' is a hard link"),
    "character device": ([entry(tarfile.CHRTYPE)], "'x.jpg' is a device or a pipe"),
    "block device": ([entry(tarfile.BLKTYPE)], "'x.jpg' is a device or a pipe"),
    "pipe": ([entry(tarfile.FIFOTYPE)], "'x.jpg' is a device or a pipe"),
    "sparse": ([entry(tarfile.GNUTYPE_SPARSE)], "'x.jpg' is a sparse file"),
    "sparse by pax headers": (
        [entry(tarfile.REGTYPE, b"0\n" + bytes(510), pax_headers=SPARSE_MAP)],
        "'x.jpg' is a sparse file",
    ),
    "unknown": ([entry(b"V")], "'x.jpg' is of an unknown type"),
    "twice": ([entry(tarfile.REGTYPE, b"1")] * 2, "contains 'x.jpg' twice"),
    "twice in disguise": (
        [entry(tarfile.REGTYPE, b"1"), entry(tarfile.REGTYPE, b"2", "./x.jpg")],
        "contains 'x.jpg' twice",
    ),
    "long name outside": (
        [entry(tarfile.REGTYPE, b"1", "a/" * 100 + "../" * 101 + "x.jpg")],
        "a path that may lead outside",
    ),
    "larger than its file": (
        [entry(tarfile.REGTYPE, b"1", size=1 << 16)],
        r"cannot be read as a tar archive \(unexpected end of data\)",
    ),
    "too much together": (
        [entry(tarfile.REGTYPE, bytes(LIMIT), "padding")],
        f"unpacks to more than {LIMIT} bytes",
    ),
    "negative size": (
        [entry(tarfile.REGTYPE, b"1", size=-2048)],
        "cannot be read as a tar archive",
    ),
    "negative header": ([entry(tarfile.XHDTYPE, size=-512)], "cannot be read as a tar archive"),
    "header of gigabytes": (
        [entry(tarfile.XHDTYPE, b"1", size=1 << 32)],
        "cannot be read as a tar archive",
    ),
    "invalid header": (
        [entry(tarfile.XHDTYPE, b"1 path")],
        "cannot be read as a tar archive",
    ),
    "something else between members": (
        [(tarfile.TarInfo("a"), b"<html>" * 300)],
        "cannot be read as a tar archive",
    ),
}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("reader", TAR_READERS)
@pytest.mark.parametrize("case", BAD_TAR_MEMBERS)
def test_tar_members_that_no_honest_archive_has(place, reader, case, mode):
    added, message = BAD_TAR_MEMBERS[case]
    refused(place, reader, write_tar_with(place, reader, added, mode), message)


@pytest.mark.parametrize("claimed", [(64 << 20) + 1, 1 << 40])
@pytest.mark.parametrize("reader", TAR_READERS)
def test_a_wanted_tar_member_that_claims_too_much_is_refused_unread(place, reader, claimed):
    name = "x.jpg" if reader == "images tar" else "cifar-10/test_batch.bin"
    member, _ = entry(tarfile.REGTYPE, name=name, size=claimed)
    path = place / "archive"
    path.write_bytes(member.tobuf() + bytes(1024))
    refused(place, reader, path, f"'{name}' has {claimed} bytes, more than the limit of {64 << 20}")


NO_ARCHIVES = {
    "empty": (b"", "archive is an empty file, not a {kind} archive"),
    "web page": (
        b"\n<!DOCTYPE html><title>Google Drive - Quota exceeded</title>",
        "archive is a web page, not a {kind} archive",
    ),
    "text": (b"Not found", "archive cannot be read as a {kind} archive"),
    "noise": (random.Random(0).randbytes(5000), "archive cannot be read as a {kind} archive"),
    "zeros": (bytes(5000), "archive (cannot be read as a zip archive|contains no files)"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(999), "archive cannot be read as a {kind} archive"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", NO_ARCHIVES)
def test_files_that_are_not_archives(place, reader, case):
    content, message = NO_ARCHIVES[case]
    kind = "tar" if READERS[reader][0] is images else READERS[reader][1]
    path = place / "archive"
    path.write_bytes(content)
    refused(place, reader, path, message.format(kind=kind))


@pytest.mark.parametrize(
    ("reader", "kind", "nature"),
    [
        ("celeba", "tar", "a tar archive, not a zip archive"),
        ("celeba", "tar.gz", "compressed by gzip, not a zip archive"),
        ("celeba", "tar.bz2", "compressed by bzip2, not a zip archive"),
        ("celeba", "tar.xz", "compressed by xz, not a zip archive"),
        ("cifar10", "zip", "a zip archive, not a tar archive"),
    ],
)
def test_an_archive_of_the_other_kind(place, reader, kind, nature):
    path = pack(place / "archive", READERS[reader][2], kind)
    refused(place, reader, path, f"archive is {nature}")


@pytest.mark.parametrize("name", ["images.zip", "images.tar.gz", "images"])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_content_determines_the_kind_not_the_name(tmp_path, kind, name):
    assert read_all(pack(tmp_path / name, {"a": b"1"}, kind)) == [("a", b"1")]


# --- damage ---

SMALL = {"a": bytes(range(256)) * 3, "b": b"1" * 512, "c": b"", "d": b"4"}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_an_archive_truncated_anywhere_is_refused(tmp_path, kind):
    path = pack(tmp_path / "data", SMALL, kind)
    whole = path.read_bytes()
    # A plain tar archive is complete once it has its first block of zeros.
    end = whole.rindex(b"4") // 512 * 512 + 1024 if kind == "tar" else len(whole)
    for size in {*range(0, end, 17), *range(0, end, 512), *range(max(0, end - 12), end)}:
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"data (cannot be read as a|is an empty file)"):
            read_all(path)
    path.write_bytes(whole[:end])
    assert read_all(path) == list(SMALL.items())


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize(
    ("reader", "kind"),
    [
        *((reader, kind) for reader in ZIP_READERS for kind in ("zip", "deflated")),
        *((reader, kind) for reader in TAR_READERS for kind in TAR_MODES),
    ],
)
def test_a_truncated_archive_is_refused_by_every_reader(place, reader, kind, share):
    noise = {"z": np.random.default_rng(0).bytes(50_000)}
    path = pack(place / "archive", {**READERS[reader][2], FACE: b"4", **noise}, kind)
    content = path.read_bytes()
    if kind == "tar":
        content = content.rstrip(b"\0")  # nothing is missing without the zeros after its end
    path.write_bytes(content[: int(share * len(content))])
    refused(place, reader, path, "cannot be read as a (zip|tar) archive.* may be truncated")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_damage_anywhere_is_detected_or_harmless(tmp_path, kind):
    path = pack(tmp_path / "data", SMALL, kind)
    whole = path.read_bytes()
    noise = random.Random(0)
    refusals = 0
    for _ in range(150):
        damaged_copy = bytearray(whole)
        for _ in range(noise.choice([1, 1, 10])):
            damaged_copy[noise.randrange(len(whole))] = noise.randrange(256)
        path.write_bytes(damaged_copy)
        try:
            read_all(path)
        except UserError:
            refusals += 1
    # Compressed and zipped files have checksums; in a plain tar archive only the headers do.
    assert refusals > (15 if kind == "tar" else 50)


def test_wrong_content_under_an_intact_container_is_refused(tmp_path):
    packed = bytearray(gzip.compress(archives.write_tar(tmp_path / "t", SMALL, "w").read_bytes()))
    packed[-8] ^= 1  # its checksum, which follows everything that tarfile reads
    path = tmp_path / "data"
    path.write_bytes(packed)
    with pytest.raises(UserError, match=r"data cannot be read as a tar archive \(CRC check failed"):
        read_all(path)


@pytest.mark.parametrize(
    "error",
    [
        tarfile.ReadError("why"),
        zipfile.BadZipFile("why"),
        zlib.error("why"),
        lzma.LZMAError("why"),
        gzip.BadGzipFile("why"),
        EOFError("why"),
        OSError("why"),
        ValueError("why"),
        NotImplementedError("why"),
    ],
    ids=repr,
)
def test_every_error_from_damage_becomes_one_message(error):
    with (
        pytest.raises(
            UserError,
            match=r"^/x cannot be read as a y \(why\); it may be truncated, or a web page .*",
        ) as caught,
        damaged("/x", "y"),
    ):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        UserError("already explained"),
        TypeError("a bug"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_errors_with_another_cause_are_not_converted(tmp_path, error):
    path = archives.write_zip(tmp_path / "a.zip", {"a": b"1"})
    with pytest.raises(type(error)) as caught, damaged(path, "file"):
        raise error
    assert caught.value is error
    with pytest.raises(type(error)) as caught, checked_zip(path, LIMIT):
        raise error
    assert caught.value is error


def test_a_checked_zip_is_an_open_zip_file(tmp_path):
    path = archives.write_zip(tmp_path / "a.zip", {"x/": b"", "x/a": b"1" * 50}, deflated=True)
    with checked_zip(path, LIMIT) as opened:
        assert opened.namelist() == ["x/", "x/a"]
        info = opened.getinfo("x/a")
        assert zip_content(opened, info, 50) == opened.read("x/a") == b"1" * 50
        with pytest.raises(
            UserError, match=r"a\.zip: 'x/a' has 50 bytes, more than the limit of 49"
        ):
            zip_content(opened, info, 49)
        assert info.file_size == 50


def test_zip_files_of_the_standard_library_are_read(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.mkdir("folder") if hasattr(made, "mkdir") else None
        made.writestr("folder/ß.jpg", b"1" * 1000)
        with made.open("large", "w", force_zip64=True) as file:
            file.write(b"2" * 1000)
    assert read_all(path) == [("folder/ß.jpg", b"1" * 1000), ("large", b"2" * 1000)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_files_of_every_format_are_read(tmp_path, form):
    names = ["./", "./ä", "./" + "long/" * 18 + "name", "./twice/", "./twice/"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                member.size = 1000
                tar.addfile(member, io.BytesIO(bytes(1000)))
    path = tmp_path / "data"
    path.write_bytes(buffer.getvalue())
    assert read_all(path) == [(name[2:], bytes(1000)) for name in names[1:3]]
