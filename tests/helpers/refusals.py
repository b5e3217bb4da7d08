"""Checks how a wrong configuration is refused, for the tables of wrong ones."""

import pytest

from svae.errors import UserError


def check_one_line(resolve, text, expected):
    """`resolve(text)` raises a UserError with one short line that contains every expected part."""
    with pytest.raises(UserError) as caught:
        resolve(text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    for part in expected:
        assert part in message
