"""ACP agents that nobody here wrote, from their registries, pointed at a model endpoint of the tests.

Guarantees: an agent is installed once below `.cache/agents`, in an environment of its own, at a pinned
version; two test runs at the same time install it once; where it cannot be had, `AgentUnavailable` says why.

    launch = opencode(model.url)                    # installs it if it is not there
    AgentConfig(command=launch.command, env=launch.env)
    python -m tests.real_agents                     # installs all of them

Each expects a HOME of its own, which the session gives it. What each does in its own way:

- opencode (Node's registry, a program of its own) asks before `bash` and `edit`; it wants 0.5 GB of memory.
- vibe (Python ≥ 3.12) asks before commands that change something, not before `echo` or `ls`; its requests for
  permission have no title; it repeats the user's message as an update.
- gemini (Node ≥ 20, a true Node program) speaks Google's dialect to its model; it wants to trust the folder
  that it works in, and starts itself a second time unless it is told not to.
- qwen and kimi (Node ≥ 22) speak chat completions; in some of their modes nobody is asked.
- openhands (Python 3.12) takes its model from a file in HOME, though its other ways to start take it from the
  environment; its client library would fetch a list of prices.
- claude and codex (Node ≥ 22, installed beside them) speak Anthropic's messages and OpenAI's responses
  to their model; without credentials they refuse to start a session.
- fast-agent (Python ≥ 3.13) runs its `bash` without asking, and that call stays `pending`; it keeps its
  history in the working directory.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fake_model import MODEL
from tests.once import one_at_a_time
from tests.patience import crowding

TOOLS: Final = Path(__file__).resolve().parent.parent / ".cache"
CACHE: Final = TOOLS / "agents"
INSTALL_TIMEOUT_SECONDS: Final = 600
_MARK: Final = "installed"
"""Written last, with the pin: a folder without it is half an installation."""

_OPENCODE: Final = "1.18.33"
_VIBE: Final = "mistral-vibe==2.20.0"
_GEMINI: Final = "@google/gemini-cli@0.61.0"
_CLAUDE: Final = "@agentclientprotocol/claude-agent-acp@0.101.0"
_CODEX: Final = "@agentclientprotocol/codex-acp@2.6.0"
_QWEN: Final = "@qwen-code/qwen-code@0.24.4"
_KIMI: Final = "@moonshot-ai/kimi-code@2.1.0"
_OPENHANDS: Final = "openhands==1.16.0"
_NODE: Final = "22.23.5"
_CLIENTS_NODE: Final = TOOLS.parent / "tests" / "mcp" / "node_modules" / "node"
_UV: Final = "uv==0.13.9"
_PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check")
_FAST_AGENT: Final = "fast-agent-mcp==0.10.39"
"""Not `fast-agent-acp`: its wheel holds no module of its own and breaks the command of the same name."""


OPENHANDS_ENV: Final = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENHANDS_SUPPRESS_BANNER": "1"}


class AgentUnavailable(Exception):
    """This agent cannot be installed here."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a session starts an agent; `readable` is what a sandbox must let it read and execute."""

    command: tuple[str, ...]
    env: dict[str, str]
    readable: tuple[Path, ...]


def opencode(model_url: str) -> Launch:
    """opencode, asking before every command and edit; installed if need be. Raises AgentUnavailable."""
    package = _opencode_package()
    folder = installed("opencode", f"{package}@{_OPENCODE}", by_npm)
    model = f"fake/{MODEL}"
    config = {
        "autoupdate": False,
        "share": "disabled",
        "enabled_providers": ["fake"],
        "model": model,
        "small_model": model,
        "permission": {"bash": "ask", "edit": "ask"},
        "provider": {
            "fake": {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": model_url, "apiKey": "none"},
                "models": {MODEL: {"limit": {"context": 200_000, "output": 8_000}}},
            }
        },
    }
    env = {
        "OPENCODE_CONFIG_CONTENT": json.dumps(config),
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    }
    program = folder / "node_modules" / package / "bin" / "opencode"
    return Launch(command=(str(program), "acp"), env=env, readable=(folder,))


def vibe(model_url: str) -> Launch:
    """Mistral Vibe; installed if need be. Raises AgentUnavailable."""
    folder = installed("vibe", _VIBE, functools.partial(by_pip, ("3.12", "3.13", "3.14")))
    config = f"""
active_model = "fake"
enable_telemetry = false
enable_update_checks = false
enable_auto_update = false
[[providers]]
name = "fake"
api_base = "{model_url}"
[[models]]
name = "{MODEL}"
provider = "fake"
alias = "fake"
"""
    # It takes its providers from a file in HOME only, and HOME is the session's.
    write = 'mkdir -p "$HOME/.vibe" && printf %s "$VIBE_CONFIG_TEXT" > "$HOME/.vibe/config.toml" && exec "$0"'
    program = str(folder / "bin" / "vibe-acp")
    return Launch(
        command=("/bin/sh", "-c", write, program),
        env={"VIBE_CONFIG_TEXT": config},
        readable=_environment(folder),
    )


def fast_agent(model_url: str) -> Launch:
    """fast-agent with its shell; installed if need be. Raises AgentUnavailable."""
    folder = installed("fast-agent", _FAST_AGENT, functools.partial(by_pip, ("3.13", "3.14")))
    return Launch(
        command=(str(folder / "bin" / "fast-agent"), "acp", "--model", f"generic.{MODEL}", "--shell"),
        env={"GENERIC_BASE_URL": model_url, "GENERIC_API_KEY": "none"},
        readable=_environment(folder),
    )


def gemini(model_url: str) -> Launch:
    """Gemini CLI, run by this machine's Node; installed if need be. Raises AgentUnavailable."""
    node = _node((20, 0), _GEMINI)
    folder = installed("gemini", _GEMINI, by_npm)
    program = folder / "node_modules" / "@google" / "gemini-cli" / "bundle" / "gemini.js"
    return Launch(
        command=(str(node), str(program), "--acp", "--model", "gemini-2.5-flash"),
        env={
            "GEMINI_API_KEY": "none",
            "GOOGLE_GEMINI_BASE_URL": _without_v1(model_url),
            "GEMINI_CLI_NO_RELAUNCH": "true",
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
        },
        readable=(folder,),
    )


def claude(model_url: str) -> Launch:
    """The adapter of Claude, run by a Node of its own; installed if need be. Raises AgentUnavailable."""
    return _on_newer_node(
        "claude", _CLAUDE, "claude-agent-acp", {"ANTHROPIC_BASE_URL": _without_v1(model_url)}
    )


def codex(model_url: str) -> Launch:
    """The adapter of Codex, run by a Node of its own; installed if need be. Raises AgentUnavailable."""
    return _on_newer_node("codex", _CODEX, "codex-acp", {"OPENAI_BASE_URL": model_url})


def qwen(model_url: str) -> Launch:
    """Qwen Code, run by a Node of its own; installed if need be. Raises AgentUnavailable."""
    env = {"OPENAI_BASE_URL": model_url, "OPENAI_API_KEY": "none", "OPENAI_MODEL": MODEL}
    return _on_newer_node("qwen", _QWEN, "qwen", env, "--acp", "--auth-type", "openai")


def kimi(model_url: str) -> Launch:
    """Kimi Code, run by a Node of its own; installed if need be. Raises AgentUnavailable."""
    env = {
        "KIMI_MODEL_PROVIDER_TYPE": "openai",
        "KIMI_MODEL_NAME": MODEL,
        "KIMI_MODEL_BASE_URL": model_url,
        "KIMI_MODEL_API_KEY": "none",
        "KIMI_CODE_NO_AUTO_UPDATE": "1",
    }
    return _on_newer_node("kimi", _KIMI, "kimi", env, "acp")


def openhands(model_url: str) -> Launch:
    """The command line of OpenHands; installed if need be. Raises AgentUnavailable."""
    folder = installed("openhands", _OPENHANDS, functools.partial(by_pip, ("3.12",)))
    # Over ACP it takes its model from a file in HOME only, and HOME is the session's.
    at = '"$HOME/.openhands/agent_settings.json"'
    write = f'mkdir -p "$HOME/.openhands" && printf %s "$OPENHANDS_TEXT" > {at} && exec "$0" "$@"'
    return Launch(
        command=("/bin/sh", "-c", write, str(folder / "bin" / "openhands"), "acp"),
        env=OPENHANDS_ENV | {"OPENHANDS_TEXT": openhands_settings(MODEL, model_url, "none")},
        readable=_environment(folder),
    )


def openhands_settings(model: str, url: str, key: str) -> str:
    """Its settings file."""
    llm = {"model": f"openai/{model}", "base_url": url, "api_key": key, "usage_id": "agent"}
    tools = [{"name": "terminal"}, {"name": "file_editor"}, {"name": "task_tracker"}]
    return json.dumps({"llm": llm, "tools": tools, "kind": "Agent"})


def _without_v1(model_url: str) -> str:
    return model_url.removesuffix("/v1")


def _on_newer_node(name: str, pin: str, package: str, env: dict[str, str], *words: str) -> Launch:
    """A program that wants Node 22: that of tests/mcp, if it is installed, else one from the registry, too,
    once for all of them. `words` follow on its command.
    """
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise AgentUnavailable(f"{pin}: there is no Node for {sys.platform} on {platform.machine()}")
    name_of_node = f"node-linux-{machine}"
    node, interpreter = _CLIENTS_NODE, _CLIENTS_NODE / "bin" / "node"
    if not interpreter.is_file():
        node = installed("node", f"{name_of_node}@{_NODE}", by_npm)
        interpreter = node / "node_modules" / name_of_node / "bin" / "node"
    folder = installed(name, pin, by_npm)
    program = (folder / "node_modules" / ".bin" / package).resolve()
    return Launch(command=(str(interpreter), str(program), *words), env=env, readable=(folder, node))


AGENTS: Final[dict[str, Callable[[str], Launch]]] = {
    "claude": claude,
    "codex": codex,
    "opencode": opencode,
    "gemini": gemini,
    "vibe": vibe,
    "fast-agent": fast_agent,
    "qwen": qwen,
    "kimi": kimi,
    "openhands": openhands,
}
PINS: Final = {
    "claude": _CLAUDE,
    "codex": _CODEX,
    "gemini": _GEMINI,
    "opencode": f"opencode-ai@{_OPENCODE}",
    "qwen": _QWEN,
    "kimi": _KIMI,
    "vibe": _VIBE,
    "fast-agent": _FAST_AGENT,
    "openhands": _OPENHANDS,
}
"""What is installed, as its registry names it, with its version."""


def installed(name: str, pin: str, install: Callable[[Path, str], None], *, below: Path = CACHE) -> Path:
    """The folder that holds the program at this version, after installing it if it is not there. Raises
    AgentUnavailable.
    """
    folder = below / name
    with one_at_a_time(below / f"{name}.lock"):
        mark = folder / _MARK
        if not mark.is_file() or mark.read_text() != pin:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            install(folder, pin)
            mark.write_text(pin)
    return folder


def by_npm(folder: Path, pin: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise AgentUnavailable(f"{pin}: there is no npm")
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    _run((npm, "install", "--prefix", str(folder), *quiet, *pin.split()), pin)


def _node(least: tuple[int, int], pin: str) -> Path:
    node = shutil.which("node")
    if node is None:
        raise AgentUnavailable(f"{pin}: there is no Node")
    done = subprocess.run((node, "--version"), capture_output=True, text=True, timeout=30 * crowding())
    major, minor = map(int, done.stdout.strip().lstrip("v").split(".")[:2])
    if (major, minor) < least:
        raise AgentUnavailable(f"{pin}: it wants Node {least[0]}.{least[1]}, here is {done.stdout.strip()}")
    return Path(node)


def by_pip(versions: tuple[str, ...], folder: Path, pin: str) -> None:
    """An environment of its own with these packages: words of pip's command line."""
    _run((_python(versions, pin), "-m", "venv", "--without-pip", str(folder)), pin)
    fill(folder, *shlex.split(pin))


def fill(environment: Path, *words: str) -> None:
    """Installs into an environment: by uv, in a tenth of the CPU time that pip takes, or by pip where uv
    cannot be had. Raises AgentUnavailable.
    """
    there, pin = ("--quiet", "--python", str(environment / "bin" / "python")), " ".join(words)
    try:
        _run((str(uv()), "pip", "install", "--cache-dir", str(TOOLS / "packages"), *there, *words), pin)
    except AgentUnavailable:
        _run((*_PIP, *there, "install", "--no-compile", *words), pin)


def uv() -> Path:
    """The program uv, kept below `.cache`. Raises AgentUnavailable."""
    return installed("uv", _UV, _by_own_pip, below=TOOLS) / "bin" / "uv"


def _by_own_pip(folder: Path, pin: str) -> None:
    _run((*_PIP, "install", "--quiet", "--no-deps", "--no-compile", "--target", str(folder), pin), pin)


def _run(command: tuple[str, ...], pin: str) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_TIMEOUT_SECONDS * crowding(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AgentUnavailable(f"{pin}: {error}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower() and "log" not in line]
        raise AgentUnavailable(f"{pin}: {lines[-1].strip()[:300] if lines else 'no reason given'}")


def _python(versions: tuple[str, ...], pin: str) -> str:
    """An interpreter of one of these versions, the first found: the running one, on PATH, in pyenv."""
    if "{}.{}".format(*sys.version_info) in versions:
        return getattr(sys, "_base_executable", sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in versions:
        found = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
        for program in filter(None, found):
            if _is_python(program, version):
                return program
    raise AgentUnavailable(f"{pin}: it wants one of Python {', '.join(versions)}, and none is here")


def _is_python(program: str, version: str) -> bool:
    """pyenv puts shims on the PATH for versions that it then refuses to run."""
    code = "import sys, venv, ensurepip; print('{}.{}'.format(*sys.version_info))"
    done = subprocess.run(
        (program, "-I", "-c", code), capture_output=True, text=True, timeout=30 * crowding()
    )
    return done.stdout.strip() == version


def _environment(folder: Path) -> tuple[Path, ...]:
    """A virtual environment and the installation of Python that it stands on."""
    return folder, (folder / "bin" / "python").resolve().parent.parent


def _opencode_package() -> str:
    """The package with the program for this machine, as opencode's own installer chooses it."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise AgentUnavailable(f"opencode: not built for {sys.platform} on {platform.machine()}")
    has_avx2 = machine != "x64" or "avx2" in Path("/proc/cpuinfo").read_text()
    libc = "" if platform.libc_ver()[0] == "glibc" else "-musl"
    return f"opencode-linux-{machine}{'' if has_avx2 else '-baseline'}{libc}"


def _install_all() -> int:
    """Installs every agent and says what came of it; the number that could not be had."""
    missing = 0
    for name, launch in AGENTS.items():
        began = time.monotonic()
        try:
            folder = launch("http://127.0.0.1:9/v1").readable[0]
        except AgentUnavailable as error:
            missing += 1
            sys.stdout.write(f"{name}: {error}\n")
        else:
            size = sum(file.lstat().st_size for file in folder.rglob("*"))
            sys.stdout.write(f"{name}: {folder}, {size >> 20} MB, {time.monotonic() - began:.0f} s\n")
    return missing


if __name__ == "__main__":
    sys.exit(_install_all())
