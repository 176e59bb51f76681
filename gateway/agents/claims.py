"""What an agent says that a tool call would do, as far as it says so in fields and not in words. Pure.

A claim is read from the structured members of ACP's tool call: `kind`, `rawInput`, `locations`, the paths of
diffs, and the names that some agents put beside them. The title is never read: it is prose. A claim is what
the agent says, not what it does: the walls around it hold whatever it says.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from gateway.agents import command_words

KEPT_BYTES: Final = 16 * 1024
"""A longer member of an update is not kept until the agent asks; what asks can be longer."""
INPUT_BYTES: Final = 256 * 1024
"""Reading a longer `rawInput` would hold everybody up, and no model writes one: no rule allows such a call,
and none looks into it.
"""
KEPT_CALLS: Final = 64
"""Tool calls of one turn whose members are kept."""
PATHS: Final = 64
"""A call that names more paths is nothing that a rule allows."""
PATH_CHARACTERS: Final = 4_096
DEPTH: Final = 6
NAME_CHARACTERS: Final = 200

_COMMANDS: Final = ("command", "cmd")
"""CallMembers of `rawInput` that hold a command: a string for a shell, or a list of words. Claude, Codex,
opencode, Vibe, fast-agent, Qwen and Kimi send `command`; `cmd` is older agents'.
"""
_PLACES: Final = ("cwd", "workdir", "directory", "working_directory")
"""Where the command would run."""
_HARMLESS: Final = frozenset(
    (*_COMMANDS, *_PLACES, "description", "explanation", "justification", "reason", "timeout", "timeout_ms")
)
"""CallMembers beside a command that change nothing of what runs. Any other that says something makes the call
one that no command rule allows.
"""
_EXPANDS: Final = re.compile(r"[$`%\\]|://")
"""In a path: something may put another text in its place."""
_NAMES_PATH: Final = re.compile(r"path|file|dir(?!ect_)|folder|cwd|source|dest|target", re.IGNORECASE)
"""How a member is called that holds a path."""
_PREFIX: Final = "mcp__"
"""Claude's names of tools of MCP servers: mcp__SERVER__TOOL."""
_SAYS_SERVER: Final = frozenset(("codex",))
"""Agents that write `rawInput` of an MCP call themselves: `server`, `tool`, `arguments`. Of every other agent
`rawInput` is what its model said, and names nothing.
"""

_EDITS: Final = frozenset(("edit", "delete", "move"))
"""Kinds of calls that bring a diff."""

Known = Raw | UnsetType


class Claim(Struct, frozen=True, kw_only=True):
    """What one tool call would do, as its agent says."""

    kind: str = ""
    tool: str = ""
    mcp_server: str = ""
    command: str | tuple[str, ...] = ""
    """As it came; empty: none."""
    words: tuple[str, ...] = ()
    """The same as one plain command; empty: it is none, or not plain."""
    paths: tuple[str, ...] = ()
    """Absolute, without `.` and `..`; symbolic links are not followed."""
    doubtful: tuple[str, ...] = ()
    """Paths of which it cannot be told from here where they lead, as they are written: `~/.ssh/config`."""
    input: str = ""
    """A digest of the whole `rawInput`; empty without one."""
    is_clear: bool = True
    """Whether everything that was said of it was read and agrees. No rule allows what is not clear."""


class _Said(Struct, kw_only=True):
    """The members of one call, as the latest of each came."""

    turn_id: str
    kind: str = ""
    tool: str = ""
    content: Known = UNSET
    locations: Known = UNSET
    raw_input: Known = UNSET
    cut: frozenset[str] = frozenset()
    """CallMembers that were too long to be kept."""


class _ClaudeMeta(Struct, rename="camel"):
    tool_name: str = ""


class _Meta(Struct, rename="camel"):
    claude_code: _ClaudeMeta = field(default_factory=_ClaudeMeta)


class _Diff(Struct):
    type: str = ""
    path: str = ""


class _Location(Struct):
    path: str = ""


class CallMembers(Struct, kw_only=True):
    """What one update or one request says of a call; a member that it does not have is unchanged."""

    kind: str | None = None
    tool: str | None = None
    content: Known = UNSET
    locations: Known = UNSET
    raw_input: Known = UNSET


class Claims:
    """What was said of the calls of the current turn, until the agent asks about one."""

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}

    def forget(self) -> None:
        """A turn begins: nothing that was said before counts."""
        self._said.clear()

    def take(self, call_id: str, turn_id: str, members: CallMembers) -> None:
        """Notes what an update says; of a long member only that there was one."""
        said = self._said.pop(call_id, None)
        if said is None or said.turn_id != turn_id:
            said = _Said(turn_id=turn_id)
        self._said[call_id] = said
        if len(self._said) > KEPT_CALLS:
            del self._said[next(iter(self._said))]
        _note(said, members, most=KEPT_BYTES)

    def asked(self, call_id: str, turn_id: str, members: CallMembers) -> _Said:
        """All that was said of a call, with what the request itself says."""
        known = self._said.get(call_id)
        if known is None or known.turn_id != turn_id:
            known = _Said(turn_id=turn_id)
        said = msgspec.structs.replace(known)
        _note(said, members, most=None)
        return said


def _note(said: _Said, members: CallMembers, *, most: int | None) -> None:
    """Takes over what is new; of a member with more than `most` bytes, that it was too long."""
    said.kind = members.kind if members.kind is not None else said.kind
    said.tool = members.tool if members.tool is not None else said.tool
    for name in ("content", "locations", "raw_input"):
        value = getattr(members, name)
        if not isinstance(value, Raw):
            continue
        if most is not None and memoryview(value).nbytes > most:
            said.cut |= {name}
            setattr(said, name, UNSET)
        else:
            said.cut -= {name}
            setattr(said, name, value if most is None else value.copy())


def tool_of_meta(meta: Known) -> str | None:
    """The tool's name that Claude's adapter puts beside a call; None if there is none."""
    if not isinstance(meta, Raw) or memoryview(meta).nbytes > KEPT_BYTES:
        return None
    try:
        return msgspec.json.decode(meta, type=_Meta).claude_code.tool_name[:NAME_CHARACTERS] or None
    except msgspec.DecodeError:
        return None


# -- reading ----------------------------------------------------------------------------------------------


def read(
    said: _Said, *, cwd: str, agent: str = "", has_link: Callable[[str], bool] = lambda _path: False
) -> Claim:
    """What was said of a call as a claim, inside the session's directory `cwd`. `agent` is the name of a
    known agent; `has_link` says whether a path leads through a symbolic link, as far as that can be seen.
    """
    given, is_read = _input(said.raw_input)
    diffs, has_diffs = _diffs(said.content)
    places, is_placed = _paths(said, given, diffs)
    resolved = {place: _absolute(place, cwd) for place in places}
    paths = tuple(dict.fromkeys(path for path in resolved.values() if path))
    doubtful = tuple(
        _as_written(place[:PATH_CHARACTERS], cwd) for place, path in resolved.items() if path is None
    )
    command, is_one = _command(given)
    server, tool = _server(said, given, agent)
    clear = is_read and has_diffs and is_placed and not doubtful and is_one and not said.cut
    clear = clear and not any(has_link(path) for path in paths)
    clear = clear and (not command or said.kind == "execute") and (not diffs or said.kind in _EDITS)
    words = command_words.plain(command) if command and is_one else None
    if command:
        is_inside = all(_is_below(path, cwd) for path in _run_places(given, cwd))
        clear = clear and words is not None and is_inside and _HARMLESS.issuperset(_saying(given))
    return Claim(
        kind=said.kind[:NAME_CHARACTERS],
        tool=tool,
        mcp_server=server,
        command=command,
        words=words or (),
        paths=paths,
        doubtful=doubtful,
        input=_digest(said.raw_input),
        is_clear=clear,
    )


def _input(raw: Known) -> tuple[dict[str, Any], bool]:
    """`rawInput` as an object, and whether all of it is one. Vibe sends it as text with JSON inside."""
    if not isinstance(raw, Raw):
        return {}, True
    if memoryview(raw).nbytes > INPUT_BYTES:
        return {}, False
    try:
        value: Any = msgspec.json.decode(raw)
        if isinstance(value, str):
            value = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return {}, False
    return (value, True) if isinstance(value, dict) else ({}, value is None)


def _command(given: dict[str, Any]) -> tuple[str | tuple[str, ...], bool]:
    """The command, and whether there is at most one, of a readable kind."""
    found = [given[name] for name in _COMMANDS if given.get(name) not in (None, "", [])]
    commands = [one for value in found if (one := _as_command(value)) is not None]
    if len(commands) != len(found) or len(commands) > 1:
        return " ; ".join(one if isinstance(one, str) else " ".join(one) for one in commands), False
    return (commands[0], True) if commands else ("", True)


def _as_command(value: object) -> str | tuple[str, ...] | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    return None


def _saying(given: dict[str, Any]) -> Iterator[str]:
    """The members that say something: not absent, not false, not empty."""
    return (name for name, value in given.items() if value not in (None, False, "", [], {}, 0))


def _run_places(given: dict[str, Any], cwd: str) -> Iterator[str]:
    for name in _PLACES:
        place = given.get(name)
        if place:
            yield (_absolute(place, cwd) if isinstance(place, str) else None) or "/"


def _server(said: _Said, given: dict[str, Any], agent: str) -> tuple[str, str]:
    """The MCP server and the tool that are called; empty if they are not named."""
    if said.tool.startswith(_PREFIX):
        server, _, tool = said.tool.removeprefix(_PREFIX).partition("__")
        return server[:NAME_CHARACTERS], tool[:NAME_CHARACTERS]
    match given:
        case {"server": str() as server, "tool": str() as tool, "arguments": _} if agent in _SAYS_SERVER:
            return server[:NAME_CHARACTERS], tool[:NAME_CHARACTERS]
    return "", said.tool[:NAME_CHARACTERS]


def _digest(raw: Known) -> str:
    """The same for the same input, however it is spaced and ordered."""
    if not isinstance(raw, Raw) or memoryview(raw).nbytes > INPUT_BYTES:
        return ""
    try:
        text = msgspec.json.encode(msgspec.json.decode(raw), order="sorted")
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return ""
    return hashlib.sha256(text).hexdigest() if text not in (b"null", b"{}") else ""


# -- paths ------------------------------------------------------------------------------------------------


def _paths(said: _Said, given: dict[str, Any], diffs: list[str]) -> tuple[list[str], bool]:
    """Every path that is named, and whether all were read."""
    found, is_read = [*_named(given, DEPTH), *diffs], True
    try:
        if isinstance(said.locations, Raw):
            found += [one.path for one in msgspec.json.decode(said.locations, type=list[_Location])]
    except (msgspec.DecodeError, RecursionError):
        is_read = False
    paths = list(dict.fromkeys(found))
    return paths[:PATHS], is_read and len(paths) <= PATHS


def _diffs(content: Known) -> tuple[list[str], bool]:
    """The paths of diffs, and whether the content could be read."""
    if not isinstance(content, Raw):
        return [], True
    try:
        parts = msgspec.json.decode(content, type=list[_Diff])
    except (msgspec.DecodeError, RecursionError):
        return [], False
    return [one.path for one in parts if one.type == "diff"], True


def _named(value: Any, depth: int, *, is_path: bool = False) -> Iterator[str]:
    """The texts in an input whose names say that they are paths, and names that are paths themselves."""
    if isinstance(value, str) and is_path:
        yield value
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _named(item, depth - 1, is_path=is_path)
    elif isinstance(value, dict) and depth:
        for name, item in value.items():
            if "/" in name:
                yield name
            yield from _named(item, depth - 1, is_path=bool(_NAMES_PATH.search(name)))


def _absolute(path: str, cwd: str) -> str | None:
    """An absolute path without `.` and `..`; None if it is none that can be told from here."""
    path = path.removeprefix("file://") if path.startswith("file:///") else path
    if not path or len(path) > PATH_CHARACTERS or not path.isprintable() or not cwd.startswith("/"):
        return None
    if path.startswith("~") or _EXPANDS.search(path):
        return None
    return _as_written(path, cwd)


def _as_written(path: str, cwd: str) -> str:
    return posixpath.normpath("/" + posixpath.join(cwd, path).lstrip("/"))


def _is_below(path: str, cwd: str) -> bool:
    return path == cwd or path.startswith(cwd.rstrip("/") + "/")


def paths_of_words(words: tuple[str, ...], cwd: str) -> Iterator[str]:
    """The paths that the words of a command may be, options' values included."""
    for word in words:
        for part in dict.fromkeys((word, word.partition("=")[2], word.partition(":")[2])):
            if part:
                yield _as_written(part, cwd)
