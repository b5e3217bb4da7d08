"""Errors that the user can fix, and a requested stop."""


class UserError(Exception):
    """A wrong input. The message says what is wrong, where (file or key), and what to do.

    It is shown without a traceback.
    """


class Stopped(Exception):
    """A signal asked the program to stop, and it did."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number  # the convention of shells
