"""The error that a user can put right."""


class UserError(Exception):
    """A wrong input. The message says what is wrong, where (file or key), and what to do.

    Whoever shows it shows the message alone, without a traceback.
    """
