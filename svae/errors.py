"""Errors that the user can fix, a requested stop, and text that is safe to show."""

import unicodedata


class UserError(Exception):
    """A wrong input. The message says what is wrong, where (file or key), and what to do.

    It is shown without a traceback.
    """


class Damaged(UserError, ValueError):
    """A file that this program wrote is empty, cut or changed, so that its content is unknown."""


class Stopped(BaseException):
    """A signal asked the program to stop, and it did.

    Like KeyboardInterrupt it is no Exception: libraries convert these into others.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number  # the convention of shells


def readable(text: str) -> str:
    """The text on one line, as it may be shown or stored wherever it comes from: what a terminal, a
    log or a page obeys (controls, line separators, marks of direction) and what is no UTF-8 is
    escaped. It stays the same if it is given again."""
    if text.isprintable():
        return text
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char.isprintable() or unicodedata.category(char) == "Zs":  # spaces of other scripts
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
