"""Permission rules of the operator, as the TOML file spells them.

`[permissions]` holds for everybody, `[tenants.NAME.permissions]` and `[agents.NAME.permissions]` for one
tenant's sessions and one agent's. `gateway/agents/permission_rules.py` says what they match.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

ToolKind = Literal[
    "", "read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other"
]
"""ACP's kinds of tool calls."""
RULES: Final = 1_000
"""One table has at most so many."""


class RuleConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a rule matches: a call that fits everything that is named here."""

    kind: ToolKind = ""
    """ACP's kind of tool call."""
    tool: str = ""
    """The tool's name, of agents that say it."""
    command: str | tuple[str, ...] = ""
    """The first words of a command: `git status`."""
    path: str | tuple[str, ...] = ()
    """Globs; `*` stays in a directory, `**` does not. Relative ones begin in the session's directory."""
    mcp_server: str = ""
    """The name of the MCP server that is called."""

    @property
    def words(self) -> tuple[str, ...]:
        """The command's words. Raises ValueError if it has a quote without an end."""
        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command

    @property
    def globs(self) -> tuple[str, ...]:
        """The paths."""
        return (self.path,) if isinstance(self.path, str) else self.path

    def mistakes(self) -> Iterator[str]:
        """What cannot be, in words."""
        try:
            words = self.words
        except ValueError as error:  # shlex's
            yield f"command {self.command!r}: {error}"
            return
        if not (self.kind or self.tool or words or self.globs or self.mcp_server):
            yield "name at least one of kind, tool, command, path, mcp_server"
        if self.command and not all(words):
            yield f"command {self.command!r}: an empty word"
        if words and self.globs:
            yield "a rule names a command or a path, not both"
        for glob in self.globs:
            if not glob or ".." in glob.split("/") or glob.startswith("~"):
                yield f"path {glob!r}: write an absolute path, or one below the session's directory"
            elif posixpath.normpath(glob) != glob:
                yield f"path {glob!r}: write {posixpath.normpath(glob)!r}"
