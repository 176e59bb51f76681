"""What `registries` stands for in a list of hosts: the package registries and mirrors that this machine's own
pip, npm and git are set to use, or else the ones that these tools come with.

Guarantees: no host is named here, so that a company's mirror is used where there is one; a tool that is not
installed, fails or takes too long names none, and the log says what was found; nothing is asked unless a list
names `registries`; `stop` ends what is being asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from gateway.config.host_rules import REGISTRIES, NoRule, host_rule
from gateway.config.tables import Config

log = logging.getLogger(__name__)

SECONDS: Final = 20.0
"""npm takes half a second on an idle machine."""
_PORTS: Final = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
_PIP_URLS: Final = ("index-url", "extra-index-url", "find-links")
_PIP_OWN: Final = (
    "from pip._internal.models.index import PyPI as own;"
    "print(own.url); print('https://' + own.file_storage_domain)"
)
"""The index that pip comes with, and where its files are."""

Ask = Callable[[tuple[str, ...]], str]
"""Runs a command; what it wrote, or nothing if it failed."""


class RegistryHosts:
    """See the module. `read` once, then `entries`."""

    def __init__(self, ask: Ask | None = None) -> None:
        self._tools = _Tools()
        self._ask = ask or self._tools.ask
        self._entries: tuple[str, ...] | None = None

    def entries(self) -> tuple[str, ...]:
        """The entries that `registries` stands for."""
        return self._entries or ()

    @property
    def is_known(self) -> bool:
        """True once they were read."""
        return self._entries is not None

    def is_needed(self, config: Config, *, agents: Iterable[str] | None = None) -> bool:
        """True if a list names them and they are not known yet. `agents` are those behind the broker."""
        behind = config.agents if agents is None else set(agents)
        tables: Iterable[tuple[str, ...]] = (
            config.egress.hosts,
            *(agent.hosts for name, agent in config.agents.items() if name in behind),
            *(tenant.hosts for tenant in config.tenants.values()),
        )
        return not self.is_known and bool(behind) and any(REGISTRIES in hosts for hosts in tables)

    def stop(self) -> None:
        """Ends what is being asked, so that `read` returns soon."""
        self._tools.stop()

    async def read(self) -> bool:
        """Asks the tools, which takes up to seconds; True if they named any host."""
        await asyncio.to_thread(self.read_now)
        return bool(self._entries)

    def read_now(self) -> None:
        """The same, for a command."""
        urls = itertools.chain(_of_pip(self._ask), _of_npm(self._ask), _of_git(self._ask))
        self._entries = tuple(dict.fromkeys(entry for url in urls if (entry := _entry(url))))
        log.info("registries of this machine: %s", ", ".join(self._entries) or "none")


def _of_pip(ask: Ask) -> Iterator[str]:
    for python in (sys.executable, "python3"):
        own = ask((python, "-c", _PIP_OWN)).split()
        if own:  # else there is no pip beside this Python
            yield from _of_pip_beside(python, own, ask)
            return


def _of_pip_beside(python: str, own: list[str], ask: Ask) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for line in ask((python, "-m", "pip", "config", "list")).splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP_URLS:
            found.setdefault(key, []).extend(_words(value))
    for urls in found.values():
        yield from urls
    if "index-url" not in found:
        yield from own


def _words(value: str) -> list[str]:
    """The URLs in a value as pip prints it, which is a quoted string of words or lines."""
    try:
        return " ".join(shlex.split(value.replace("\\n", " "))).split()
    except ValueError:
        return []


def _of_npm(ask: Ask) -> Iterator[str]:
    if shutil.which("npm") is None:
        return
    yield ask(("npm", "config", "get", "registry")).strip()
    try:
        settings = json.loads(ask(("npm", "config", "list", "--json")) or "{}")
    except ValueError:
        return
    if isinstance(settings, dict):
        scoped = (value for name, value in settings.items() if name.endswith(":registry"))
        yield from (value for value in scoped if isinstance(value, str))


def _of_git(ask: Ask) -> Iterator[str]:
    """The mirrors that git is told to use instead of others."""
    if shutil.which("git") is None:
        return
    for line in ask(("git", "config", "--get-regexp", r"^url\..*\.(push)?insteadof$")).splitlines():
        yield line.split(" ", 1)[0].removeprefix("url.").rpartition(".")[0]


def _entry(url: str) -> str | None:
    """The entry for a URL's host and port; None if it names no host that can be one."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
        if not parts.hostname or port is None:
            return None
        return host_rule(f"{parts.hostname}:{port}").text
    except (NoRule, ValueError) as error:
        log.warning("a registry of this machine cannot be in a list of hosts: %s", error)
        return None


class _Tools:
    """Runs one tool at a time, outside of any project, until it is stopped from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def ask(self, command: tuple[str, ...]) -> str:
        """What a tool answers."""
        try:
            with self._lock:
                if self._is_stopped:
                    return ""
                process = self._running = subprocess.Popen(
                    command,
                    cwd=os.sep,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # so that what it starts ends with it
                )
        except OSError as error:
            log.warning("%s did not say which registries it uses: %s", command[0], error)
            return ""
        with process:
            try:
                said, _ = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired as error:
                log.warning("%s did not say which registries it uses: %s", command[0], error)
                _kill(process)
                said = b""
        with self._lock:
            self._running = None
        return said.decode("utf-8", "replace") if process.returncode == 0 else ""

    def stop(self) -> None:
        """Ends the tool that runs, and runs no other."""
        with self._lock:
            self._is_stopped = True
            if self._running is not None:
                _kill(self._running)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a tool and all that it started; one that was waited for is left alone."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
