"""The error that a user can put right."""


class UserError(Exception):
    """A wrong input. The message says what is wrong, where (file or key), and what to do.

    Whoever shows it shows the message alone, without a traceback.
    """


class Stopped(Exception):
    """The program was asked to stop by a signal, and did."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number  # as shells count
