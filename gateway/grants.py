"""What an agent's command needs to be read before it can run: its program, the programs' installation, its
scripts.

Guarantee: only what the operator's own command names is granted, and of an installation only `bin`, `lib`,
`lib64`, `libexec` and `pyvenv.cfg`: a program in ~/.local/bin opens no file of its owner. More is granted in
the configuration (`readable`, `writable`), never by a request.
"""

from __future__ import annotations

import os
import shutil
from typing import Final

_OF_AN_INSTALLATION: Final = ("bin", "lib", "lib64", "libexec", "pyvenv.cfg")
_SYSTEM: Final = ("/usr/", "/bin/", "/sbin/")
_LINKS_FOLLOWED: Final = 16


def of_command(argv: tuple[str, ...], search_path: str | None) -> tuple[str, ...]:
    """The paths that may be read so that this command runs."""
    if not argv:
        return ()
    program = shutil.which(argv[0], path=search_path) or argv[0]
    granted: set[str] = set()
    for path in _hops(program):
        granted |= _installation(path)
    for word in argv[1:]:
        if os.path.isabs(word) and os.path.isfile(word):
            granted |= {word, os.path.realpath(word)}
    return tuple(sorted(path for path in granted if os.path.exists(path)))


def _hops(path: str) -> list[str]:
    """A program, and each place that its symbolic links lead through."""
    hops = [os.path.abspath(path)]
    while os.path.islink(hops[-1]) and len(hops) < _LINKS_FOLLOWED:
        hops.append(os.path.normpath(os.path.join(os.path.dirname(hops[-1]), os.readlink(hops[-1]))))
    real = os.path.realpath(path)
    return hops if real in hops else [*hops, real]


def _installation(program: str) -> set[str]:
    """A program and what is installed with it, where it lies in a directory `bin`; the system's are there
    anyway.
    """
    directory = os.path.dirname(program)
    prefix = os.path.dirname(directory)
    if program.startswith(_SYSTEM):
        return set()
    if os.path.basename(directory) != "bin":
        return {program}
    return {os.path.join(prefix, name) for name in _OF_AN_INSTALLATION} | _base_of(prefix)


def _base_of(prefix: str) -> set[str]:
    """The installation that a virtual environment was made from: `home` of its pyvenv.cfg (PEP 405)."""
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8") as file:
            settings = dict(line.replace(" ", "").rstrip().partition("=")[::2] for line in file)
    except (OSError, UnicodeDecodeError):
        return set()
    home = settings.get("home", "")
    base = os.path.dirname(home)
    if not os.path.isabs(home) or base in {"/", "/usr"}:
        return set()
    return {os.path.join(base, name) for name in _OF_AN_INSTALLATION}
