"""What is left out of snapshots, because it can be made again. Pure.

Folders of packages and caches by their names, caches below HOME by their places, what `.gitignore` files say
inside a git working tree, and what the configuration adds. The patterns are git's: `*`, `?`, `[a-z]`, `**`,
`!` to take one back, a slash at the end for folders only, a slash elsewhere for a place below the file's own.

A `.gitignore` is the agent's to write, so its size is bounded, and no pattern takes longer than the name
times the pattern: none of them backtracks.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from gateway.files.upload_names import PARTIAL_PREFIX, UPLOADS

NAMES: Final = frozenset(
    (
        *("node_modules", "__pycache__", ".venv", ".tox", ".nox", ".mypy_cache", ".pytest_cache"),
        *(".ruff_cache", ".gradle", ".parcel-cache", ".turbo", ".terraform"),
    )
)
"""Folders of these names, wherever they are."""
IN_HOME: Final = frozenset(
    (
        *("home/.cache", "home/.npm", "home/.yarn/cache", "home/.pnpm-store", "home/.bun/install/cache"),
        *("home/.local/share/pnpm", "home/.cargo/registry", "home/.cargo/git", "home/.rustup", "home/go/pkg"),
        *("home/.m2/repository", "home/.nuget/packages", "home/.local/share/uv", "home/.pyenv"),
        "home/.nvm/versions",
    )
)
"""Folders at these places."""
STAGING: Final = ".agent-gateway-undo-"
"""Where an undo gathers contents, in the working directory: removed at its end, or left by a death in it."""
RULE_FILE_BYTES: Final = 64 * 1024
MOST_RULES: Final = 400
"""In one working tree; more are not read."""
_PATTERN_CHARACTERS: Final = 300
_MOST_STARS: Final = 8


class Rule(Struct, frozen=True):
    """One line of a `.gitignore`."""

    base: str
    """The folder that it is about."""
    parts: tuple[re.Pattern[str] | None, ...]
    """One for each part of the name; None: any number of parts (`**`)."""
    is_anchored: bool
    is_for_folders: bool
    takes_back: bool

    def matches(self, path: str, name: str, *, is_folder: bool) -> bool:
        """True if it is about this name below its folder."""
        if self.is_for_folders and not is_folder:
            return False
        if not self.is_anchored:
            part = self.parts[0]
            return part is not None and part.match(name) is not None
        return _fits(self.parts, path[len(self.base) + 1 :].split("/"))


def _fits(parts: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    """The way of matching `*` that goes back to the last one only."""
    at = star = -1
    i = j = 0
    while j < len(names):
        part = parts[i] if i < len(parts) else ...
        if part is None:
            star, at, i = i, j, i + 1
        elif part is not ... and part.match(names[j]):
            i, j = i + 1, j + 1
        elif star >= 0:
            at += 1
            i, j = star + 1, at
        else:
            return False
    return all(part is None for part in parts[i:])


def rules_of(text: str, base: str) -> list[Rule]:
    """The rules of one file; what is no pattern is passed over."""
    return [rule for line in text.splitlines() if (rule := _rule(line, base)) is not None]


def _rule(line: str, base: str) -> Rule | None:
    line = line.rstrip()
    takes_back = line.startswith("!")
    pattern = line[1:] if takes_back else line
    if not pattern or pattern.startswith("#") or len(pattern) > _PATTERN_CHARACTERS:
        return None
    is_for_folders = pattern.endswith("/")
    pattern = pattern.rstrip("/").removeprefix("\\")
    is_anchored = "/" in pattern
    words = [word for word in pattern.split("/") if word]
    if not words or any(word.count("*") > _MOST_STARS for word in words):
        return None
    try:
        parts = tuple(None if word == "**" else re.compile(fnmatch.translate(word)) for word in words)
    except re.error:
        return None
    if not is_anchored and parts[0] is None:
        is_anchored = True
    return Rule(base, parts, is_anchored, is_for_folders, takes_back)


class LeftOut:
    """Decides for one walk, folder by folder. `inner` adds what the files of a working tree say."""

    def __init__(self, configured: Iterable[str] = ()) -> None:
        text = "\n".join(configured)
        self._configured = [rule for top in ("home", "work") for rule in rules_of(text, top)]

    def is_out(self, path: str, name: str, rules: Sequence[Rule], *, is_folder: bool) -> bool:
        """True if this name is left out; `path` is that of the name, from the folder of the session."""
        if is_folder and (name in NAMES or path in IN_HOME or name.startswith(STAGING)):
            return True
        if name.startswith(PARTIAL_PREFIX):
            return True
        if f"{path}/".startswith(f"work/{UPLOADS}/"):
            rules = ()  # what people attached cannot be made again
        top = path.partition("/")[0]
        own = [rule for rule in self._configured if rule.base == top]
        return _last_word(own, path, name, is_folder) or _last_word(rules, path, name, is_folder)


def _last_word(rules: Sequence[Rule], path: str, name: str, is_folder: bool) -> bool:
    """The last rule that matches decides."""
    for rule in reversed(rules):
        if rule.matches(path, name, is_folder=is_folder):
            return not rule.takes_back
    return False
