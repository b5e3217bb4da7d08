"""The software that made a file."""

import platform
from importlib.metadata import version

import svae


def software(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of svae and of the named packages."""
    return {
        "python": platform.python_version(),
        "svae": svae.__version__,
        **{package: version(package) for package in packages},
    }
