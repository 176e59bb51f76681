"""Agents that many people use: how each is started, installed and given its credentials. Pure.

One row an agent: `--agent claude`, `[agents.NAME] preset = "claude"` and the words of a session whose agent
wants credentials all read it. A row names the variables that its agent gets of the gateway's environment;
nothing else of that environment goes along.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field


class KnownAgent(Struct, frozen=True, kw_only=True):
    """One agent."""

    name: str
    title: str
    command: tuple[str, ...]
    install: str
    """The command that installs it."""
    needs: str = ""
    """What must be there before that."""
    credentials: tuple[str, ...]
    """The variables of which it needs one, the usual one first."""
    options: tuple[str, ...] = ()
    """Further variables that it reads."""
    files: tuple[str, ...] = ()
    """Where it looks for its settings and keeps a login; `~` is the session's own HOME."""
    env: dict[str, str] = field(default_factory=dict)
    """What is set for it, so that it runs unattended."""
    limits: dict[str, int] = field(default_factory=dict)
    choices: dict[str, str | bool | tuple[str, ...]] = field(default_factory=dict)
    """`agents.X.options` that are safe, if its own are not: a person approves, not a model."""
    auth_method: str = ""
    """The method of ACP's `authenticate` that takes its variable; empty: it needs none."""
    login: str = ""
    """How to come by credentials otherwise, as a sentence."""

    @property
    def variables(self) -> tuple[str, ...]:
        """All that it gets of the gateway's environment."""
        return self.credentials + self.options


_ROWS: Final = (
    KnownAgent(
        name="claude",
        title="Claude",
        command=("claude-agent-acp",),
        install="npm install -g @agentclientprotocol/claude-agent-acp",
        needs="Node 22 or later",
        credentials=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        options=("ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"),
        files=("~/.claude/settings.json", "~/.claude/.credentials.json"),
        env={"DISABLE_AUTOUPDATER": "1"},
        choices={"mode": "default"},
        login="`claude setup-token` prints a token of a subscription for CLAUDE_CODE_OAUTH_TOKEN.",
    ),
    KnownAgent(
        name="codex",
        title="Codex",
        command=("codex-acp",),
        install="npm install -g @agentclientprotocol/codex-acp",
        needs="Node 20 or later",
        credentials=("OPENAI_API_KEY", "CODEX_API_KEY"),
        options=("CODEX_CONFIG", "MODEL_PROVIDER", "INITIAL_AGENT_MODE"),
        files=("~/.codex/config.toml", "~/.codex/auth.json"),
        env={"NO_BROWSER": "1"},
        choices={"mode": "read-only"},
        auth_method="api-key",
    ),
    KnownAgent(
        name="gemini",
        title="Gemini CLI",
        command=("gemini", "--acp"),
        install="npm install -g @google/gemini-cli",
        needs="Node 20 or later",
        credentials=("GEMINI_API_KEY",),
        options=("GOOGLE_GEMINI_BASE_URL", "GEMINI_MODEL"),
        files=("~/.gemini/settings.json",),
        env={"GEMINI_CLI_TRUST_WORKSPACE": "true", "GEMINI_CLI_NO_RELAUNCH": "true"},
        auth_method="gemini-api-key",
    ),
    KnownAgent(
        name="opencode",
        title="opencode",
        command=("opencode", "acp"),
        install="npm install -g opencode-ai",
        credentials=("OPENCODE_CONFIG_CONTENT", "OPENCODE_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
        files=("~/.config/opencode/opencode.json", "~/.local/share/opencode/auth.json"),
        env={"OPENCODE_DISABLE_AUTOUPDATE": "1"},
        limits={"memory_bytes": 2_000_000_000},
    ),
    KnownAgent(
        name="qwen",
        title="Qwen Code",
        command=("qwen", "--acp", "--auth-type", "openai"),
        install="npm install -g @qwen-code/qwen-code",
        needs="Node 22 or later",
        credentials=("OPENAI_API_KEY",),
        options=("OPENAI_BASE_URL", "OPENAI_MODEL"),
        files=("~/.qwen/settings.json",),
    ),
    KnownAgent(
        name="goose",
        title="Goose",
        command=("goose", "acp"),
        install="see https://block.github.io/goose/docs/getting-started/installation",
        credentials=("OPENAI_API_KEY", "ANTHROPIC_API_KEY"),
        options=("GOOSE_PROVIDER", "GOOSE_MODEL", "OPENAI_HOST"),
        files=("~/.config/goose/config.yaml",),
        login="GOOSE_PROVIDER and GOOSE_MODEL say whose model it uses.",
    ),
    KnownAgent(
        name="vibe",
        title="Mistral Vibe",
        command=("vibe-acp",),
        install="pip install mistral-vibe",
        needs="Python 3.12 or later",
        credentials=("MISTRAL_API_KEY",),
        files=("~/.vibe/config.toml",),
    ),
)
KNOWN_AGENTS: Final = {row.name: row for row in _ROWS}


def started_by(argv: Sequence[str]) -> KnownAgent | None:
    """The agent whose program a command starts, whatever its path and its further words."""
    program = os.path.basename(argv[0]) if argv else ""
    return next((row for row in _ROWS if row.command[0] == program), None)
