"""A gateway that an ordinary user runs, while the tests beside it stay what they are:
`async with running_gateway(directory, prefix=launcher())` in a `directory_of_its_own()`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.walls import NOBODY, PYTHON

_LAUNCH: Final = (
    "import os, sys; os.setgroups([]); "
    f"os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3); "
    "os.environ.update(HOME='/', PYTHONPATH=sys.argv[1], PYTHONDONTWRITEBYTECODE='1'); "
    "os.execv(sys.argv[2], [sys.argv[2], *sys.argv[4:]])"
)
"""After that: where packages are, an interpreter that everybody may run, and the command as root has it."""


def launcher() -> tuple[str, ...]:
    """What to put before a gateway's command so that an ordinary user runs it; nothing if one does anyhow."""
    if os.geteuid() != 0:
        return ()
    interpreter = sys.executable if _is_for_all(pathlib.Path(sys.executable).resolve()) else PYTHON
    asked = "import sys; print(sys.version_info[:2])"
    version = subprocess.run([interpreter, "-c", asked], capture_output=True, text=True, check=True).stdout
    if version.strip() != str(sys.version_info[:2]):
        pytest.skip(f"NOT TESTED: an ordinary user may run no Python {sys.version_info[:2]} here")
    return (interpreter, "-c", _LAUNCH, sysconfig.get_path("purelib"), interpreter)


def _is_for_all(path: pathlib.Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


@contextlib.contextmanager
def directory_of_its_own() -> Iterator[pathlib.Path]:
    """A directory that the ordinary user may write and everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="ordinary-", ignore_cleanup_errors=True) as name:
        path = pathlib.Path(name)
        path.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        yield path


def as_ordinary() -> dict[str, Any]:
    """Keywords of `subprocess` for a process of that user."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
