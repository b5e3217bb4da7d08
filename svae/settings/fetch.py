"""The settings of downloads."""

from dataclasses import dataclass

from svae.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class FetchSettings:
    """The section `fetch`."""

    timeout: float = setting(
        60.0,
        "seconds without an answer, or without a byte, after which an attempt ends",
        exclusive_minimum=0,
        maximum=86_400,
    )
    retries: int = setting(5, "further attempts after a failed one", minimum=0, maximum=100)
