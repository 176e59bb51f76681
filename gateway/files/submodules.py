"""Submodules of a workspace: which ones a commit has, and from where they may be fetched. Pure.

`.gitmodules` is part of a repository, so anybody who can commit writes it. Guarantees: a submodule is fetched
from the host of the repository, or from one that the operator named, and only by the protocols of a
repository; its path stays inside of the files; there are at most so many of them, and so deep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.config.workspaces import WorkspaceConfig, place_of, repository_mistakes
from gateway.errors import WorkspaceFailed

MOST: Final = 64
DEEPEST: Final = 4
"""Submodules of submodules."""
LISTING: Final = (
    'git ls-tree -r -z --full-tree "$COMMIT" | { grep -z "^160000 " || true; } | head -c 1000000;'
    ' printf "\\n";'
    ' git config --no-includes -z --blob "$COMMIT:.gitmodules" --list 2>/dev/null | head -c 1000000'
)
"""Prints what `found` reads."""
_LINK: Final = re.compile(rb"160000 commit ([0-9a-f]{40,64})\t(.+)", re.DOTALL)
_SETTING: Final = re.compile(r"submodule\.(.+)\.(path|url)")
_PART: Final = re.compile(r"(?!\.{1,2}$)(?!\.git$)(?!git~)[^/\\]{1,200}", re.IGNORECASE)
_PATH_CHARACTERS: Final = 1_000


class Submodule(Struct, frozen=True, kw_only=True):
    """A repository inside of another one."""

    path: str
    """From the top of the files."""
    name: str
    """As the repository around it calls it."""
    url: str
    commit: str
    inside: str = ""
    """The path of the submodule that it is one of; empty: of the repository itself."""


class Listed(Struct, frozen=True):
    """Submodules to fetch, and words for each that is not fetched."""

    submodules: list[Submodule]
    left_out: list[str]


def found(printed: bytes, workspace: WorkspaceConfig, *, url: str, inside: str = "") -> Listed:
    """The submodules of a repository with this URL, by what `LISTING` printed. Raises WorkspaceFailed."""
    links, _, settings = printed.partition(b"\n")
    listed, urls = Listed([], []), _by_path(settings)
    for number, (commit, path) in enumerate(_links(links)):
        if number == MOST:
            raise WorkspaceFailed(f"The repository has more than {MOST} submodules.")
        shown = f"{inside}/{path}" if inside else path
        name, wanted = urls.get(path, ("", ""))
        address = absolute(wanted, url)
        if why := _why_not(path, name, address, workspace):
            listed.left_out.append(f"{ascii(shown)[1:-1][:200]}: {why}")
            continue
        listed.submodules.append(Submodule(path=shown, name=name, url=address, commit=commit, inside=inside))
    return listed


def _links(printed: bytes) -> Iterator[tuple[str, str]]:
    for line in printed.split(b"\0"):
        if match := _LINK.fullmatch(line):
            yield match[1].decode(), match[2].decode("utf-8", "replace")


def _by_path(printed: bytes) -> dict[str, tuple[str, str]]:
    """Path → name and URL."""
    settings: dict[str, dict[str, str]] = {}
    for line in printed.decode("utf-8", "replace").split("\0"):
        key, _, value = line.partition("\n")
        if match := _SETTING.fullmatch(key):
            settings.setdefault(match[1], {})[match[2]] = value
    return {one.get("path", ""): (name, one.get("url", "")) for name, one in settings.items()}


def absolute(url: str, base: str) -> str:
    """A URL as git reads it in `.gitmodules`: `./` and `../` begin at the repository's own."""
    if not url.startswith(("./", "../")):
        return url
    parts = urlsplit(base)
    steps = parts.path.strip("/").split("/")
    while url.startswith(("./", "../")):
        if url.startswith("../"):
            steps = steps[:-1]
        url = url.partition("/")[2]
    return f"{parts.scheme}://{parts.netloc}/{'/'.join([*steps, url])}"


def _why_not(path: str, name: str, url: str, workspace: WorkspaceConfig) -> str:
    """Why it is not fetched, in words; empty if it is."""
    if len(path) > _PATH_CHARACTERS or not path.isprintable() or path.startswith("-"):
        return "its path is not plain"
    if not all(_PART.fullmatch(part) for part in path.split("/")):
        return "its path leads out of the files"
    if not name or not name.isprintable() or not url:
        return ".gitmodules does not name it"
    if any(repository_mistakes(url)) or (urlsplit(url).scheme == "http" and not workspace.is_plain):
        return "its URL is not the https URL of a repository"
    host, port = place_of(url)
    if (host, port) != workspace.place and (host, port) not in workspace.submodule_places:
        return f"{host}:{port} is not among submodule_hosts of the workspace"
    return ""
