"""Paths as people type them: ``~`` and ``$VAR`` are expanded where they were typed, once, before anything is recorded.

``$$VAR`` waits: it is a variable of the job, such as ``$$TMPDIR``, which has its value where the job runs.
"""

import os
import re
from pathlib import Path

from benchmark.runtime.errors import UserError

_VARIABLE = re.compile(r"(\$\$?)(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


def typed(text: str, where: str) -> str:
    """``text`` with its ``~`` and ``$VAR`` expanded; a file that is called so keeps its name.

    Raises :class:`UserError`, naming ``where``, of a variable that is not set or a home that is not there.
    """
    if text.startswith("~"):
        home = os.path.expanduser(text)  # noqa: PTH111  pathlib's raises of a user without a home
        if home == text:
            raise UserError(f"{where}: {text}: there is no such home folder")
        text = home
    return _expanded(text, where, "$")


def in_job(text: str, where: str) -> Path:
    """The path where this process runs: with ``$$VAR`` expanded. Raises :class:`UserError` as :func:`typed`."""
    return Path(_expanded(text, where, "$$"))


def is_of_job(text: str) -> bool:
    """Whether a path that was typed waits for a variable of the job."""
    return any(match[1] == "$$" for match in _VARIABLE.finditer(text))


def absolute(text: str) -> str:
    """A path that was typed, from anywhere; one that begins with a variable of the job stays as it is."""
    return text if text.startswith("$$") else os.path.abspath(text)  # noqa: PTH100  links are the user's own


def _expanded(text: str, where: str, mark: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[2] or match[3]
        if match[1] != mark:
            return match[0]
        if name in os.environ:
            return os.environ[name]
        if os.path.lexists(text):
            return match[0]
        later = f" (write $${name} for one of the job)" if mark == "$" else ""
        raise UserError(f"{where}: {text}: the environment variable {name} is not set{later}")

    return _VARIABLE.sub(value, text)
