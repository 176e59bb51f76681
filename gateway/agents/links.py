"""Symbolic links on the way to a file of a session, as far as they are seen from outside its walls."""

from __future__ import annotations

import os
import stat
from typing import Final

PARTS: Final = 100
"""A path with more parts is not looked at, and counts as one with a link."""


def has_link(path: str, *, below: str = "/") -> bool:
    """Whether an absolute path without `..` leads through a symbolic link, not counting those on the way to
    the directory `below`. Its agent can put one there a moment later: only walls keep it inside.
    """
    base = below.rstrip("/")
    at = base if path.startswith(base + "/") else ""
    parts = path.removeprefix(at).split("/")[1:]
    if len(parts) > PARTS:
        return True
    for part in parts:
        at = f"{at}/{part}"
        try:
            mode = os.lstat(at).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError):
            return True
        if stat.S_ISLNK(mode):
            return True
    return False
