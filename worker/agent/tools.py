"""The tools that the built-in agent gives to a model: the session's files, arithmetic, the clock.

Guarantees: a tool touches no file outside the session's directory, wherever links lead; sizes are bounded;
what goes wrong is a `ToolRefused` in plain words, which the model and the user can both read. Nothing is
written without the user's permission: a tool that changes something says so (`asks`), and the turn asks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from time import gmtime, localtime, strftime
from typing import Any, Final

import msgspec

from worker.agent.arithmetic import NotArithmetic, evaluate

READ_LIMIT_BYTES: Final = 256 * 1024
WRITE_LIMIT_BYTES: Final = 256 * 1024
PATH_LIMIT_BYTES: Final = 4096
"""What the kernel takes (PATH_MAX)."""
LIST_LIMIT_ENTRIES: Final = 500

Arguments = dict[str, Any]


class ToolRefused(Exception):
    """The tool cannot do that; the message says why."""


class BuiltInTool(msgspec.Struct, frozen=True):
    """One tool: its description for the model (`parameters` is a JSON schema), its title, its function."""

    name: str
    description: str
    kind: str
    parameters: dict[str, Any]
    run: Callable[[str, Arguments], str]
    title: Callable[[Arguments], str]
    asks: bool = False

    def schema(self) -> dict[str, Any]:
        """The tool as OpenAI's chat completions take it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


def resolve(root: str, path: str) -> str:
    """The real path of `path` under `root`; raises ToolRefused where it leads outside."""
    if "\0" in path:
        raise ToolRefused("A path cannot hold a null character.")
    if len(path.encode("utf-8", "surrogatepass")) > PATH_LIMIT_BYTES:
        raise ToolRefused(f"A path cannot be longer than {PATH_LIMIT_BYTES} bytes.")
    home = os.path.realpath(root)
    try:
        target = os.path.realpath(os.path.join(home, path))
    except UnicodeError:  # half of a character, which JSON can hold
        raise ToolRefused("A path must be text.") from None
    except RecursionError:  # one link after the other
        raise ToolRefused(f"{path} leads through too many links.") from None
    if target != home and not target.startswith(home.rstrip("/") + "/"):
        raise ToolRefused(f"{path} is outside this session's directory.")
    return target


def printable(path: str) -> str:
    """A path as text that JSON can hold: file names may be any bytes."""
    return os.fsencode(path).decode("utf-8", "replace")


def old_text(root: str, path: str) -> str | None:
    """What a write would replace; None if there is no such file yet."""
    target = resolve(root, path)
    return _read(target, path) if os.path.lexists(target) else None


def text_argument(arguments: Arguments, name: str) -> str:
    """A required text; raises ToolRefused naming it."""
    value = arguments.get(name)
    if not isinstance(value, str):
        raise ToolRefused(f'"{name}" is missing or not a text.')
    return value


def _list_files(root: str, arguments: Arguments) -> str:
    path = text_argument({"path": ".", **arguments}, "path")
    try:
        with os.scandir(resolve(root, path)) as entries:
            found = [entry.name + "/" * entry.is_dir() for entry in entries]
    except OSError as error:
        raise ToolRefused(f"{path} cannot be listed: {_reason(error)}.") from None
    found.sort()
    names = [printable(name) for name in found[:LIST_LIMIT_ENTRIES]]
    if len(found) > LIST_LIMIT_ENTRIES:
        names.append(f"… and {len(found) - LIST_LIMIT_ENTRIES} more")
    return "\n".join(names) or "The directory is empty."


def _read_file(root: str, arguments: Arguments) -> str:
    path = text_argument(arguments, "path")
    return _read(resolve(root, path), path)


def _read(target: str, path: str) -> str:
    try:
        with os.fdopen(_open_regular(target, path, os.O_RDONLY), "rb") as file:
            content = file.read(READ_LIMIT_BYTES + 1)
    except OSError as error:
        raise ToolRefused(f"{path} cannot be read: {_reason(error)}.") from None
    if len(content) > READ_LIMIT_BYTES:
        raise ToolRefused(f"{path} is larger than {READ_LIMIT_BYTES // 1024} KiB.")
    return content.decode("utf-8", "replace")


def _write_file(root: str, arguments: Arguments) -> str:
    path, content = text_argument(arguments, "path"), text_argument(arguments, "content").encode()
    if len(content) > WRITE_LIMIT_BYTES:
        raise ToolRefused(f"The new content is larger than {WRITE_LIMIT_BYTES // 1024} KiB.")
    target = resolve(root, path)
    try:
        _make_directories(os.path.dirname(target))
        with os.fdopen(_open_regular(target, path, os.O_WRONLY | os.O_CREAT), "wb") as file:
            file.truncate()
            file.write(content)
    except OSError as error:
        raise ToolRefused(f"{path} cannot be written: {_reason(error)}.") from None
    return f"Wrote {len(content)} bytes to {path}."


def _make_directories(path: str) -> None:
    """Makes a directory and those above it, of which a thousand may be missing. Raises OSError."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for path in reversed(missing):
        os.mkdir(path)


def _open_regular(target: str, path: str, flags: int) -> int:
    # Without O_NONBLOCK opening a named pipe would stop the agent for good.
    fd = os.open(target, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise ToolRefused(f"{path} is not a regular file.")


def _reason(error: OSError) -> str:
    return (error.strerror or "unknown error").lower()


def _calculate(root: str, arguments: Arguments) -> str:
    try:
        return evaluate(text_argument(arguments, "expression"))
    except NotArithmetic as error:
        raise ToolRefused(str(error)) from None


def _current_time(root: str, arguments: Arguments) -> str:
    utc = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
    return f"{strftime('%Y-%m-%dT%H:%M:%S%z (%A)', localtime())}, UTC {utc}"


def _object(required: tuple[str, ...] = (), **properties: str) -> dict[str, Any]:
    fields = {name: {"type": "string", "description": said} for name, said in properties.items()}
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


TOOLS: Final[dict[str, BuiltInTool]] = {
    tool.name: tool
    for tool in (
        BuiltInTool(
            "list_files",
            f"List a directory of the session, at most {LIST_LIMIT_ENTRIES} entries.",
            "search",
            _object(path="Directory, relative to the session's directory; default: that directory itself"),
            _list_files,
            lambda arguments: f"List {arguments.get('path', '.')}",
        ),
        BuiltInTool(
            "read_file",
            f"Read a text file of the session, at most {READ_LIMIT_BYTES // 1024} KiB.",
            "read",
            _object(("path",), path="File, relative to the session's directory"),
            _read_file,
            lambda arguments: f"Read {arguments.get('path', 'a file')}",
        ),
        BuiltInTool(
            "write_file",
            "Write a text file of the session, replacing what it held. The user is asked first.",
            "edit",
            _object(
                ("path", "content"),
                path="File, relative to the session's directory",
                content="The whole new content",
            ),
            _write_file,
            lambda arguments: f"Write {arguments.get('path', 'a file')}",
            asks=True,
        ),
        BuiltInTool(
            "calculate",
            "Evaluate arithmetic: + - * / // % ** and parentheses.",
            "think",
            _object(("expression",), expression="For example (2 + 3) * 4"),
            _calculate,
            lambda arguments: f"Calculate {arguments.get('expression', '')}",
        ),
        BuiltInTool(
            "current_time",
            "The date and the time now, here and in UTC.",
            "other",
            _object(),
            _current_time,
            lambda arguments: "Look at the clock",
        ),
    )
}
