"""Agents that many people use: how each is started, installed and given its credentials. Pure.

With a provider of the gateway's an agent gets no credentials but an address and a token, as its row says.
One row an agent: `--agent claude`, `[agents.NAME] preset = "claude"` and the words of a session whose agent
wants credentials all read it. A row names the variables that its agent gets of the gateway's environment;
nothing else of that environment goes along.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct, field

SpokenDialect = Literal["chat", "responses", "messages", "gemini"]
TOKEN_VARIABLE: Final = "AGW_TOKEN"  # noqa: S105 - a name
"""For agents whose settings name the variable that holds the key."""


class Maker(Struct, frozen=True, kw_only=True):
    """A provider that many agents are made for."""

    title: str
    url: str
    dialects: tuple[SpokenDialect, ...]


MAKERS: Final = {
    "anthropic": Maker(title="Anthropic", url="https://api.anthropic.com", dialects=("messages",)),
    "openai": Maker(title="OpenAI", url="https://api.openai.com/v1", dialects=("chat", "responses")),
    "gemini": Maker(
        title="Google Gemini", url="https://generativelanguage.googleapis.com", dialects=("gemini",)
    ),
}


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
    limits_preset: Literal["chat", "coding"] = "coding"
    limits: dict[str, int] = field(default_factory=dict)
    choices: dict[str, str | bool | tuple[str, ...]] = field(default_factory=dict)
    """`agents.X.options` that are safe, if its own are not: a person approves, not a model."""
    withheld: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """`agents.X.withheld_options`: values with which the agent or a model approves everything."""
    auth_method: str = ""
    """The method of ACP's `authenticate` that takes its variable; empty: it needs none."""
    login: str = ""
    """How to come by credentials otherwise, as a sentence."""
    dialects: tuple[SpokenDialect, ...] = ()
    """How it speaks to a provider of the gateway's; empty: it is not known how it finds one."""
    maker: str = ""
    """The provider that it is made for, of `MAKERS`: whose key is asked for on a terminal."""
    provider_env: dict[str, str] = field(default_factory=dict)
    """What is set for it if it has a provider, with `{base}`, `{token}`, `{model}` and `{small_model}` to be
    filled in; what names a model is left out if the provider names none.
    """
    provider_files: dict[str, str] = field(default_factory=dict)
    """The same for files in HOME, line by line; they also switch off what else it would connect to."""
    needs_model: bool = False
    """Whether it cannot do without the name of a model."""

    @property
    def variables(self) -> tuple[str, ...]:
        """All that it gets of the gateway's environment."""
        return self.credentials + self.options


_CODEX: Final = f"""\
model = "{{model}}"
model_provider = "agw"
check_for_update_on_startup = false
[model_providers.agw]
name = "Agent Gateway"
base_url = "{{base}}/openai/v1"
wire_api = "responses"
env_key = "{TOKEN_VARIABLE}"
[analytics]
enabled = false
[features]
plugins = false
apps = false
"""
_GEMINI: Final = """\
{
 "privacy": {"usageStatisticsEnabled": false},
 "general": {"disableAutoUpdate": true, "disableUpdateNag": true, "enableAutoUpdate": false},
 "security": {"auth": {"selectedType": "gemini-api-key"}}
}
"""
_QWEN: Final = """\
{
 "privacy": {"usageStatisticsEnabled": false},
 "general": {"disableAutoUpdate": true, "enableAutoUpdate": false}
}
"""
_VIBE: Final = f"""\
active_model = "agw"
enable_telemetry = false
enable_update_checks = false
enable_auto_update = false
[[providers]]
name = "agw"
api_base = "{{base}}/openai/v1"
api_key_env_var = "{TOKEN_VARIABLE}"
[[models]]
name = "{{model}}"
provider = "agw"
alias = "agw"
supports_images = true
"""
_TAKES_IMAGES: Final = {"attachment": True, "modalities": {"input": ["text", "image"], "output": ["text"]}}
"""opencode would leave images out, since it knows nothing of these models; one that takes none says so."""
_OPENCODE: Final = json.dumps(
    {
        "autoupdate": False,
        "share": "disabled",
        "enabled_providers": ["agw"],
        "model": "agw/{model}",
        "small_model": "agw/{small_model}",
        "provider": {
            "agw": {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": "{base}/openai/v1", "apiKey": "{token}"},
                "models": {"{model}": _TAKES_IMAGES, "{small_model}": _TAKES_IMAGES},
            }
        },
    }
)
_OPENCODE_ASKS: Final = '{"bash": "ask", "edit": "ask"}'
"""Without it, it runs every command and edits every file of its directory without asking."""

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
        withheld={"mode": ("auto", "bypassPermissions")},
        login="`claude setup-token` prints a token of a subscription for CLAUDE_CODE_OAUTH_TOKEN.",
        dialects=("messages",),
        maker="anthropic",
        provider_env={
            "ANTHROPIC_BASE_URL": "{base}/anthropic",
            "ANTHROPIC_AUTH_TOKEN": "{token}",
            "ANTHROPIC_MODEL": "{model}",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "{small_model}",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
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
        withheld={"mode": ("agent", "agent-full-access")},
        auth_method="api-key",
        dialects=("responses",),
        maker="openai",
        provider_env={TOKEN_VARIABLE: "{token}"},
        provider_files={".codex/config.toml": _CODEX},
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
        withheld={"mode": ("yolo",)},
        auth_method="gemini-api-key",
        dialects=("gemini",),
        maker="gemini",
        provider_env={
            "GOOGLE_GEMINI_BASE_URL": "{base}/gemini",
            "GEMINI_API_KEY": "{token}",
            "GEMINI_MODEL": "{model}",
        },
        provider_files={".gemini/settings.json": _GEMINI},
    ),
    KnownAgent(
        name="opencode",
        title="opencode",
        command=("opencode", "acp"),
        install="npm install -g opencode-ai",
        credentials=("OPENCODE_CONFIG_CONTENT", "OPENCODE_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
        files=("~/.config/opencode/opencode.json", "~/.local/share/opencode/auth.json"),
        env={"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_PERMISSION": _OPENCODE_ASKS},
        dialects=("chat",),
        provider_env={
            "OPENCODE_CONFIG_CONTENT": _OPENCODE,
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        },
        needs_model=True,
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
        choices={"mode": "default"},
        withheld={"mode": ("auto", "yolo")},
        dialects=("chat",),
        provider_env={
            "OPENAI_BASE_URL": "{base}/openai/v1",
            "OPENAI_API_KEY": "{token}",
            "OPENAI_MODEL": "{model}",
        },
        provider_files={".qwen/settings.json": _QWEN},
        needs_model=True,
    ),
    KnownAgent(
        name="kimi",
        title="Kimi Code",
        command=("kimi", "acp"),
        install="npm install -g @moonshot-ai/kimi-code",
        needs="Node 22.19 or later",
        credentials=("KIMI_MODEL_API_KEY",),
        options=("KIMI_MODEL_NAME", "KIMI_MODEL_BASE_URL", "KIMI_MODEL_PROVIDER_TYPE"),
        files=("~/.kimi-code/config.toml",),
        env={"KIMI_CODE_NO_AUTO_UPDATE": "1"},
        choices={"mode": "default"},
        withheld={"mode": ("auto", "yolo")},
        login="KIMI_MODEL_NAME says which model it uses; without it, the key is not read.",
        dialects=("chat",),
        provider_env={
            "KIMI_MODEL_PROVIDER_TYPE": "openai",
            "KIMI_MODEL_NAME": "{model}",
            "KIMI_MODEL_BASE_URL": "{base}/openai/v1",
            "KIMI_MODEL_API_KEY": "{token}",
        },
        needs_model=True,
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
        withheld={"mode": ("auto-approve",)},
        dialects=("chat",),
        provider_env={TOKEN_VARIABLE: "{token}"},
        provider_files={".vibe/config.toml": _VIBE},
        needs_model=True,
    ),
)
KNOWN_AGENTS: Final = {row.name: row for row in _ROWS}


def started_by(argv: Sequence[str]) -> KnownAgent | None:
    """The agent whose program a command starts, whatever its path and its further words."""
    program = os.path.basename(argv[0]) if argv else ""
    return next((row for row in _ROWS if row.command[0] == program), None)
