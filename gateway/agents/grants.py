"""What an agent's command needs to be read before it can run: its program, the programs' installation, its
scripts, and what runs those.

Guarantee: only what the operator's own command names is granted, and where its links, its `#!` line and a
version manager's shim lead to; of an installation only `bin`, `lib`, `lib64`, `libexec` and `pyvenv.cfg`, of
one by npm `node_modules`: a program in ~/.local/bin opens no file of its owner. The same holds for the
toolchains on the gateway's PATH (`TOOLCHAINS`), unless `[agents.NAME] toolchains = false`. More is granted in
the configuration (`readable`, `writable`), never by a request.
"""

from __future__ import annotations

import os
import shutil
import time
from functools import lru_cache
from typing import Final

_OF_AN_INSTALLATION: Final = ("bin", "lib", "lib64", "libexec", "pyvenv.cfg")
_OF_SHIMS: Final = (
    *("shims", "bin", "libexec", "versions", "version", "plugins"),
    *("pyenv.d", "rbenv.d", "nodenv.d"),
)
"""Of a version manager whose shims are scripts that ask it (pyenv and its kin)."""
_SYSTEM: Final = ("/usr/", "/bin/", "/sbin/")
TOOLCHAINS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("node", "npm", "pnpm", "yarn", "bun", "deno", "python3", "pip", "uv", "ruby", "php"), ()
    ),
    **dict.fromkeys(("git", "make", "cmake", "ninja", "gcc", "g++", "clang", "rg", "rustc", "cargo"), ()),
    "go": ("src", "pkg", "go.env", "VERSION", "misc"),
    "javac": ("conf", "jmods", "include", "release"),
    "mvn": ("boot", "conf"),
    "gradle": (),
    "dotnet": (),
}
"""What builds are made with → what of its installation it reads besides the usual."""
_TOOLCHAINS_SECONDS: Final = 30
"""How long a look for them holds: it costs a stat for each name and directory of the PATH."""
_LINKS_FOLLOWED: Final = 16
_INTERPRETERS_FOLLOWED: Final = 4
"""A script's interpreter may be a script itself."""
_FIRST_LINE_BYTES: Final = 512
_PACKAGES: Final = "/node_modules/"


def of_command(argv: tuple[str, ...], search_path: str | None) -> tuple[str, ...]:
    """The paths that may be read so that this command runs; none lies below another."""
    if not argv:
        return ()
    path = with_own_directories(argv, search_path or "")
    granted = _of_program(shutil.which(argv[0], path=search_path) or argv[0], path)
    for word in argv[1:]:
        if os.path.isabs(word) and os.path.isfile(word):
            granted |= {word, os.path.realpath(word)} | _packages(word) | _packages(os.path.realpath(word))
    return _uncovered(granted)


def of_toolchains(search_path: str) -> tuple[str, ...]:
    """The paths that may be read so that the toolchains on this search path run; none lies below another."""
    return _toolchains(search_path, int(time.monotonic() // _TOOLCHAINS_SECONDS))


@lru_cache(maxsize=16)
def _toolchains(search_path: str, _when: int) -> tuple[str, ...]:
    granted: set[str] = set()
    for name, also in TOOLCHAINS.items():
        program = shutil.which(name, path=search_path)
        if program is None:
            continue
        granted |= _of_program(program, search_path)
        real = os.path.realpath(program)
        if not real.startswith(_SYSTEM):
            home = os.path.dirname(os.path.dirname(real))
            granted |= {os.path.join(home, part) for part in also}
    return _uncovered(granted)


def with_own_directories(argv: tuple[str, ...], search_path: str) -> str:
    """The search path with those directories of the agent's own program that it lacks: what is installed
    beside it (its `node`) is what it runs by. They come first if its path is given, last if it was looked up.
    """
    program = shutil.which(argv[0], path=search_path) if argv else None
    if program is None:
        return search_path
    hops = _hops(program)
    own = [os.path.dirname(hops[0])]
    own += [os.path.dirname(hop) for hop in hops if os.path.basename(os.path.dirname(hop)) == "bin"]
    own += [f"{hop.partition('/lib' + _PACKAGES)[0]}/bin" for hop in hops if "/lib" + _PACKAGES in hop]
    known = search_path.split(":")
    added = [path for path in dict.fromkeys(own) if path not in known and os.path.isdir(path)]
    parts = [added, known if search_path else []]
    return ":".join(path for part in (parts if "/" in argv[0] else reversed(parts)) for path in part)


def interpreter(program: str, search_path: str) -> str | None:
    """What a script is run by: the program of its `#!` line, looked up if that is env(1); None if it is no
    script. A program that is not found is its bare name.
    """
    try:
        with open(program, "rb") as file:
            line = file.read(_FIRST_LINE_BYTES).split(b"\n", 1)[0]
    except OSError:
        return None
    words = line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        return (shutil.which(words[0], path=search_path) or words[0]) if words else None
    return words[0] if words else None


def _of_program(program: str, search_path: str, followed: int = 0) -> set[str]:
    hops = _hops(program)
    granted: set[str] = set()
    for hop in hops:
        granted |= _installation(hop)
    runners = [interpreter(hops[-1], search_path)]
    if any(_PACKAGES in hop for hop in hops):
        runners.append(shutil.which("node", path=search_path))  # which a script of /bin/sh may start
    if followed < _INTERPRETERS_FOLLOWED:
        for runner in runners:
            if runner is not None and os.path.isabs(runner):
                granted |= _of_program(runner, search_path, followed + 1)
    return granted


def _hops(path: str) -> list[str]:
    """A program, and each place that its symbolic links lead through."""
    hops = [os.path.abspath(path)]
    while os.path.islink(hops[-1]) and len(hops) < _LINKS_FOLLOWED:
        hops.append(os.path.normpath(os.path.join(os.path.dirname(hops[-1]), os.readlink(hops[-1]))))
    real = os.path.realpath(path)
    return hops if real in hops else [*hops, real]


def _installation(program: str) -> set[str]:
    """A program and, if it is in a directory of programs, the files installed with it. The system's own are
    readable anyway.
    """
    directory = os.path.dirname(program)
    prefix = os.path.dirname(directory)
    if program.startswith(_SYSTEM):
        return set()
    if packages := _packages(program):
        return packages
    if os.path.basename(directory) == "shims" and os.path.isdir(os.path.join(prefix, "versions")):
        return {os.path.join(prefix, name) for name in _OF_SHIMS}
    if os.path.basename(directory) != "bin":
        return {program}
    return {os.path.join(prefix, name) for name in _OF_AN_INSTALLATION} | _base_of(prefix)


def _packages(path: str) -> set[str]:
    """The outermost `node_modules` that a file lies in: its packages read each other."""
    before, found, _ = path.partition(_PACKAGES)
    return {before + _PACKAGES.rstrip("/")} if found else set()


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


def _uncovered(paths: set[str]) -> tuple[str, ...]:
    """Those that exist and lie below no other, sorted."""
    there = {path for path in paths if os.path.exists(path)}
    return tuple(sorted(path for path in there if not any(path.startswith(f"{other}/") for other in there)))
