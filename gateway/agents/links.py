"""Symbolic links on the way to a file of a session, as far as they are seen from outside its walls."""

from __future__ import annotations

import os
import stat
from typing import Final

PARTS: Final = 100
"""A path with more parts is not looked at, and counts as one with a link."""


def has_link(path: str, *, inside: str, outside: str) -> bool:
    """Whether an absolute path without `..`, as an agent writes it, leads through a symbolic link.

    Its working directory is `inside` for itself and `outside` for us; its home lies beside that. It can put a
    link there a moment later: only walls keep it inside.
    """
    near, here = os.path.dirname(inside), os.path.dirname(outside)
    is_near = bool(inside) and bool(outside) and path.startswith(near.rstrip("/") + "/")
    at, rest = (here, path.removeprefix(near)) if is_near else ("", path)
    parts = rest.split("/")[1:]
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
