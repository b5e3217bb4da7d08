import hashlib

import pytest

from svae.datasets.verify import verify
from svae.errors import UserError

CONTENT = bytes(range(256)) * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "raw" / "celeba" / "faces.zip"
    path.parent.mkdir(parents=True)
    return path


def holds(target):
    """Names and contents of the files in the target's folder, without the kept checksums."""
    note = f".{target.name}.checksums.json"
    assert target.exists() or not target.with_name(note).exists()
    return {path.name: path.read_bytes() for path in target.parent.iterdir() if path.name != note}


def test_the_right_file_passes(target):
    target.write_bytes(CONTENT)
    verify(target, f"sha256:{SHA256}", size=2560, by_hand="the moon")
    verify(target, f"md5:{MD5.upper()}", size=None, by_hand="")
    assert holds(target) == {"faces.zip": CONTENT}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (PAGE, "an HTML page ('Google Drive - Quota exceeded')"),
        (b"\xef\xbb\xbf  <HTML>", "an HTML page"),
        (b"not it", f"another file (6 bytes, SHA256 {hashlib.sha256(b'not it').hexdigest()})"),
        (b"", f"another file (0 bytes, SHA256 {hashlib.sha256().hexdigest()})"),
    ],
)
def test_a_wrong_file_is_set_aside(target, content, what):
    target.write_bytes(content)
    with pytest.raises(UserError) as caught:
        verify(target, f"sha256:{SHA256}", size=2560, by_hand="the moon")
    assert str(caught.value) == (
        f"{target} should be the published file (2560 bytes, SHA256 {SHA256}) but is {what}; it "
        f"is now called faces.zip.refused.\nBy hand: get it from the moon and put it at {target}.\n"
        "If you know another version of the file to be good, accept its checksum in config.yaml: "
        "`sources: {celeba: {sha256: HEX}}` (`sha256: {ROLE: HEX}` where there are several files)."
    )
    assert holds(target) == {"faces.zip.refused": content}


def test_a_wrong_file_that_cannot_be_renamed(target):
    target.write_bytes(b"not it")
    target.with_name("faces.zip.refused").mkdir()
    with pytest.raises(UserError, match=r"; delete it \(Is a directory\)\.\n"):
        verify(target, f"sha256:{SHA256}", size=2560, by_hand="")


TITLES = {
    "\x1b[2Ja &amp; b": r"'\x1b[2Ja & b'",
    "&#27;[31mred": "'[31mred'",
    "\x9b\u202ea": r"'\x9b\u202ea'".replace("x9b", "u009b"),
    " a\n\u2028 b\t": "'a b'",
    "&#x202e;a": r"'\u202ea'",
    "long " * 100: "'" + "long " * 15 + "...'",
}


@pytest.mark.parametrize("title", TITLES)
def test_a_title_cannot_send_control_characters_to_a_terminal(target, title):
    target.write_text(f"<html><title>{title}</title>", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        verify(target, f"sha256:{SHA256}", size=None, by_hand="")
    assert f"an HTML page ({TITLES[title]})" in str(caught.value)
