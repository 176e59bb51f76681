"""Workspaces (`[workspaces.NAME]`): repositories that sessions may start from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec import field

from gateway.config.table import Table
from worker.spec import MIB, Limits

if TYPE_CHECKING:
    from gateway.config.tables import Config

PORTS: Final = {"https": 443, "http": 80}
_REF: Final = re.compile(r"(?!.*(\.\.|//|@\{|\.lock(/|$)))[A-Za-z0-9_][A-Za-z0-9_./+@-]{0,199}(?<![./])")
_FOLDER: Final = re.compile(r"(?!.*(^|/)\.\.?(/|$))[^/\0][^\0]{0,199}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class WorkspaceConfig(Table, frozen=True, kw_only=True):
    """A repository that sessions may start from, kept ready as a warm copy."""

    repo: str = ""
    """Its https URL, without a user or a password."""
    ref: str = ""
    """A branch or a tag; empty: the one that the server names as its default."""
    title: str = ""
    """What people read in the list; empty: its name."""
    setup: str = ""
    """A shell command that is run once for each new commit, behind walls, in the checked out files."""
    cache: tuple[str, ...] = ()
    """Folders of HOME that `setup` fills: kept from one run to the next, and copied to each session's HOME.
    """
    agent: str = ""
    """The agent of its sessions that name none; its walls and its network are those of `setup`, too."""
    env: dict[str, str] = field(default_factory=dict)
    """Variables of its sessions' agents and of `setup`."""
    limits: dict[str, int] = field(default_factory=dict)
    """Limits of its workers and of `setup`, by the names of `workers`, in place of those of the agent."""
    tenants: tuple[str, ...] = ()
    """The tenants that may use it; empty: all."""
    agents: tuple[str, ...] = ()
    """The agents that may be used with it; empty: all."""
    credential: str = ""
    """The credential for its host, `[credentials.NAME]`: used by the gateway to fetch and to push."""
    depth: int = 0
    """How many commits of history are fetched; 0: all."""
    submodules: bool = False
    """Submodules are fetched, too: from the host of `repo`, and from those of `submodule_hosts`."""
    submodule_hosts: tuple[str, ...] = ()
    """Further hosts of submodules, `HOST` or `HOST:PORT`."""
    max_bytes: int = 4096 * MIB
    """How large its history, and its files after `setup`, may be."""
    refresh_seconds: float = 900
    """How old the warm copy may be before it is fetched again in the background; 0: it stays as it is."""
    fetch_seconds: float = 600
    """How long a fetch or a push may take."""
    setup_seconds: float = 900
    """How long `setup` may take."""
    wait_seconds: float = 300
    """How long the first session waits for a warm copy; it goes on being made meanwhile."""
    branch_prefix: str = "agent/"
    """What the names of pushed branches must begin with."""
    author_email: str = "{subject}@agent-gateway.invalid"
    """The address of commits whose person is not named by one: `{subject}` and `{tenant}` are filled in."""
    pull_request_url: str = ""
    """Where a pull request is opened: `github`, `gitlab`, `gitea`, `bitbucket` for the paths that such hosts
    have, or a URL with `{repo}`, `{branch}` and `{base}`. Empty: no link is shown.
    """

    @property
    def place(self) -> tuple[str, int]:
        """The host and port of its server."""
        return place_of(self.repo)

    @property
    def is_plain(self) -> bool:
        """Whether its server speaks http without TLS, which only one on loopback may."""
        return self.repo.startswith("http://")

    @property
    def submodule_places(self) -> set[tuple[str, int]]:
        """The hosts and ports of `submodule_hosts`."""
        return {place_of(f"https://{host}") for host in self.submodule_hosts}

    def mistakes(self, config: Config) -> Iterator[str]:
        """What cannot be, as `setting: words`."""
        yield from self._of_repo(config)
        if self.ref and not _REF.fullmatch(self.ref):
            yield f"ref: {self.ref!r} is no name of a branch or tag"
        if self.branch_prefix and not _REF.fullmatch(self.branch_prefix + "x"):
            yield f"branch_prefix: {self.branch_prefix!r} cannot begin the name of a branch"
        yield from (f"cache: {path!r} is no folder of HOME" for path in self.cache if not is_folder(path))
        yield from (f"limits.{key}: no such limit" for key in self.limits if key not in _LIMITS)
        yield from (
            f"submodule_hosts: {host!r} is no HOST or HOST:PORT"
            for host in self.submodule_hosts
            if any(repository_mistakes(f"https://{host}/x")) or "/" in host
        )
        yield from (f"env: {name!r} is no name of a variable" for name in self.env if not is_variable(name))
        yield from (
            f"tenants: there is no tenant {name!r}" for name in self.tenants if not config.tenant(name)
        )
        if self.agents and self.agent and self.agent not in self.agents:
            yield f"agent: {self.agent!r} is not among its agents"
        if self.max_bytes < MIB:
            yield "max_bytes: must be a megabyte or more"
        for name in ("fetch_seconds", "setup_seconds", "wait_seconds"):
            if getattr(self, name) <= 0:
                yield f"{name}: must be more than 0"
        if "{subject}" not in self.author_email:
            yield "author_email: has {subject}, so that people can be told apart"
        known = self.pull_request_url in PULL_REQUESTS or self.pull_request_url.startswith("https://")
        if self.pull_request_url and not known:
            yield f"pull_request_url: one of {', '.join(PULL_REQUESTS)}, or a URL with https://"

    def _of_repo(self, config: Config) -> Iterator[str]:
        yield from (f"repo: {words}" for words in repository_mistakes(self.repo))
        if not self.credential:
            return
        credential = config.credentials.get(self.credential)
        if credential is None:
            known = ", ".join(config.credentials) or "none"
            yield f"credential: there is no credential {self.credential!r}; there are: {known}"
        elif (place := place_of(self.repo)) not in credential.places:
            yield f"credential: {self.credential} is not for {place[0]}:{place[1]}"


_LIMITS: Final = frozenset(Limits.__struct_fields__)
PULL_REQUESTS: Final[dict[str, str]] = {
    "github": "{repo}/compare/{base}...{branch}?expand=1",
    "gitlab": (
        "{repo}/-/merge_requests/new?merge_request%5Bsource_branch%5D={branch}"
        "&merge_request%5Btarget_branch%5D={base}"
    ),
    "gitea": "{repo}/compare/{base}...{branch}",
    "bitbucket": "{repo}/pull-requests/new?source={branch}&dest={base}",
}
"""Where hosts of these kinds open a pull request."""


def place_of(url: str) -> tuple[str, int]:
    """The host and port of a URL; nothing if it names none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or ""), parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:  # the port, or the brackets of an address
        return "", 0


def repository_mistakes(url: str) -> Iterator[str]:
    """What is wrong with the URL of a repository."""
    host, _ = place_of(url)
    if not host:
        yield "write the https URL of a repository"
        return
    parts = urlsplit(url)
    is_plain = parts.scheme == "http" and is_loopback(host)
    if not (parts.scheme == "https" or is_plain) or not parts.path.strip("/"):
        yield "write the https URL of a repository"
    if parts.username or parts.password or parts.query or parts.fragment or not _is_plain_text(url):
        yield "has no user, password or query; name a credential instead"


def _is_plain_text(url: str) -> bool:
    return url.isprintable() and not any(character in url for character in " \\")


def is_loopback(host: str) -> bool:
    """True for a name or address of this machine, to which nothing travels over a network."""
    return host == "localhost" or host.endswith(".localhost") or host in ("127.0.0.1", "::1")


def is_folder(path: str) -> bool:
    """True for a path inside HOME."""
    return bool(_FOLDER.fullmatch(path)) and path.isprintable()


def is_variable(name: str) -> bool:
    """True for the name of an environment variable that git itself does not read."""
    return bool(_VARIABLE.fullmatch(name))


def is_branch(name: str) -> bool:
    """True for a name that a branch can have everywhere."""
    return bool(_REF.fullmatch(name))


def workspace_mistakes(config: Config, agents: tuple[str, ...]) -> list[str]:
    """What cannot be in `[workspaces.NAME]`; `agents` are those that there are."""
    mistakes = []
    for name, workspace in config.workspaces.items():
        mistakes += [f"workspaces.{name}.{words}" for words in workspace.mistakes(config)]
        mistakes += [
            f"workspaces.{name}.agents: there is no agent {agent!r}"
            for agent in dict.fromkeys((*workspace.agents, *filter(None, (workspace.agent,))))
            if agent not in agents
        ]
    return mistakes
