"""Errors that the user can fix, and a requested stop."""


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
