"""Names, archives and settings made to confuse: what they may show, and what they may cost."""

import io
import lzma
import struct
import tarfile
import tracemalloc
import unicodedata
import zipfile

import pytest

from svae.config.schema import config_schema
from svae.config.yaml_file import check_file
from svae.datasets.formats.archives import members
from svae.errors import UserError, readable

# Names ----------------------------------------------------------------------------------------

# Controls of C0 and C1, marks of direction, separators of lines, half a surrogate, private use.
OBEYED = (
    "\x00\x07\x1b\n\r\t\x7f\x85\x9b\u061c\u200b\u200e"
    "\u202a\u202e\u2028\u2029\u2066\ufeff\udc9b\ue000"
)


@pytest.mark.parametrize("char", OBEYED)
def test_what_a_terminal_or_page_obeys_is_escaped(char):
    shown = readable(f"a{char}b")
    assert shown.isascii() and shown.isprintable() and shown[:2] == "a\\" and shown[-1] == "b"
    assert readable(shown) == shown


@pytest.mark.parametrize("name", ["Zoë <b>", "日本\u3000語.jpg", "a\u00a0b", "\\x1b", "ﷺ"])
def test_other_names_stay(name):
    assert readable(name) == name


def test_every_character_is_shown_by_what_does_not_act():
    acting = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    for code in (*range(0x3000), *range(0xFE00, 0x10000), *range(0xE0000, 0xE0100)):
        assert not any(unicodedata.category(char) in acting for char in readable(chr(code)))


def pattern_of(*keys):
    found = config_schema()["properties"]
    for key in keys:
        found = found[key]
    return found


NAMES = {
    "a final newline": "evil\n",
    "two of them": "evil\n\n",
    "a carriage return": "evil\r",
    "300 characters": "a" * 300,
    "65 characters": "a" * 65,
    "a device of Windows": "nul",
    "a folder of results": "baselines",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_that_files_cannot_have_are_refused(name):
    from jsonschema import Draft202012Validator

    rule = Draft202012Validator(pattern_of("variants", "propertyNames"))
    assert not rule.is_valid(name)
    assert all(map(rule.is_valid, ("evil", "a" * 64, "low_rank_2")))


def test_no_pattern_accepts_a_final_newline():
    """Whatever the setting: found in the schema, so that a new one is covered."""
    from jsonschema import Draft202012Validator

    def patterns(node):
        if isinstance(node, dict):
            yield from ([node["pattern"]] if isinstance(node.get("pattern"), str) else [])
            node = list(node.values())
        for inner in node if isinstance(node, list) else ():
            yield from patterns(inner)

    good = ["evil", "ab" * 32, "a.keras"]
    found = set(patterns(config_schema()))
    assert len(found) >= 3
    for pattern in found:
        valid = Draft202012Validator({"pattern": pattern}).is_valid
        accepted = [text for text in good if valid(text)]
        assert accepted and not any(valid(text + "\n") for text in accepted)


# Archives -------------------------------------------------------------------------------------


def read(path):
    return dict(members(path, lambda name: True, 1 << 24))


def nameless_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")
    content[start + 28 : start + 30] = b"\0\0"  # the length of the name
    content[start + 30 : start + 32] = b"\1\0"  # its byte becomes a comment or extra field
    path.write_bytes(content)


def zip_with_offset(offset):
    def write(path):
        info = zipfile.ZipInfo("a")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(info, b"1")
            archive.infolist()[0].header_offset = offset
            archive._didModify = True

    return write


def sparse_header(count, extended=b"\1"):
    """An old GNU sparse member, whose map goes on in `count` blocks of 21 entries."""
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[482:483] = extended
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    entry = b"%011o\0%011o\0" % (0, 0)
    block = (entry * 21).ljust(504, b"\0") + b"\1" + bytes(7)
    return bytes(header) + block * count


def cut_sparse_tar(path):
    path.write_bytes(sparse_header(0))


def endless_sparse_tar(path):
    path.write_bytes(sparse_header(20_000))


def endless_names(path):
    """Long-name headers one after another, each of which tarfile would keep."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 300_000
    path.write_bytes((info.tobuf(tarfile.GNU_FORMAT) + b"a" * 300_032) * 30)


def tar_with_size(size):
    def write(path):
        header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
        header[124:136] = b"\x80" + struct.pack(">3xQ", size)
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        path.write_bytes(bytes(header) + bytes(1024))

    return write


ARCHIVES = {
    "a zip member without a name": nameless_zip,
    "a zip offset of 2^62": zip_with_offset(1 << 62),
    "a zip offset of 2^63": zip_with_offset(1 << 63),
    "a zip offset of 2^64 - 2": zip_with_offset((1 << 64) - 2),
    "a tar member of 2^62 bytes": tar_with_size(1 << 62),
    "a tar member of 2^64 - 1 bytes": tar_with_size((1 << 64) - 1),
    "a cut sparse tar": cut_sparse_tar,
    "an endless sparse map": endless_sparse_tar,
    "endless long names": endless_names,
}


@pytest.mark.parametrize("write", ARCHIVES.values(), ids=ARCHIVES)
def test_hostile_archives_are_one_line_and_little_memory(tmp_path, write):
    path = tmp_path / "a"
    write(path)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"^/.* `sources`\.$|only regular files"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def tar_of(**contents):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("padding", [0, 4, 1 << 21])
def test_xz_of_several_streams_is_read(tmp_path, padding):
    content = tar_of(a=bytes(range(256)) * 1000, b=b"2")
    starts = range(0, len(content), 70_000)
    parts = [lzma.compress(content[start : start + 70_000]) for start in starts]
    (tmp_path / "a.tar.xz").write_bytes(b"".join(part + bytes(padding) for part in parts))
    assert read(tmp_path / "a.tar.xz") == {"a": bytes(range(256)) * 1000, "b": b"2"}


@pytest.mark.parametrize("rest", [b"garbage", lzma.compress(b"x" * 1000)[:-20]])
def test_xz_with_another_end_is_refused(tmp_path, rest):
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(tar_of(a=b"1")) + rest)
    with pytest.raises(UserError, match="cannot be read as a tar archive"):
        read(tmp_path / "a.tar.xz")


# Settings -------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
SETTINGS = {
    "a truth value that is none": ("a: !!bool x", "!!bool"),
    "a time that is none": ("a: !!timestamp x", "remove the tag"),
    "a number that is none": ("a: !!int x", "not YAML"),
    "a float that is none": ("a: !!float x", "not YAML"),
    "nested aliases in lists": (LAUGHS, "aliases"),
    "nested aliases in mappings": (LAUGHS.replace("[", "{x: [").replace("]", "]}"), "aliases"),
    "another tag": ("a: !!python/name:os.system x", "line 1"),
}


@pytest.mark.parametrize(("text", "words"), SETTINGS.values(), ids=SETTINGS)
def test_hostile_settings_are_one_line(tmp_path, text, words):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        check_file(tmp_path / "config.yaml")
    assert "config.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_aliases_may_be_used(tmp_path):
    (tmp_path / "config.yaml").write_text("a: &a {x: 1}\nb: {<<: *a}\nc: [*a, *a]\n")
    check_file(tmp_path / "config.yaml")
