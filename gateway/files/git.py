"""Git behind walls: every git of the gateway's is a process of its own with a worker's walls round it.

Guarantees:
- no git runs in the gateway, as the gateway's user (if that is root), or where it could read the gateway's
  files: what a hostile repository, server or working directory makes it do ends at these walls;
- it reads no configuration but ours: nothing of the machine's, of a user's, and nothing that an agent wrote;
  hooks, fsmonitor, filters, pagers, prompts, helpers, submodules and other protocols than http(s) are off;
- it is ended when its time is up, and may write no more than its limits say;
- a credential is in its environment only, never in its arguments, and in nothing that is said of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from gateway.errors import RepositoryRefused, RepositoryUnreachable, WorkspaceFailed
from gateway.workers.spawner import Spawner, StartFailed, Worker, base_environment
from gateway.workers.waiting import until_readable, until_writable
from worker.spec import MIB, Exit, Limits, Network, Sandbox, SpawnRequest

OUTPUT_BYTES: Final = 64 * MIB
"""Of a patch or a pack, which is in memory while it is passed on."""
_READ_BYTES: Final = 256 * 1024
_LAST_LINES: Final = 3
_WORDS_CHARACTERS: Final = 400

_HARDENED: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.pager": "cat",
    "core.askPass": "",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "credential.helper": "",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "200",
    "http.lowSpeedTime": "60",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "push.recurseSubmodules": "no",
    "diff.ignoreSubmodules": "dirty",
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.directory": "*",
    "commit.gpgSign": "false",
    "advice.addEmbeddedRepo": "false",
    "pack.threads": "1",
}
_VARIABLES: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_SSH_COMMAND": "false",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "false",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PROTOCOL_FROM_USER": "0",
    "LC_ALL": "C",
}


class Secret(Struct, frozen=True):
    """A header with a credential for one server, and what of it must not be shown."""

    url: str
    header: str
    masked: tuple[str, ...] = ()
    ca_file: str = ""

    def __repr__(self) -> str:
        return "Secret(…)"


class Room(Struct, frozen=True, kw_only=True):
    """Where a program runs, as whom, and what it may use."""

    home: str
    work: str
    uid: int | None
    readable: tuple[str, ...] = ()
    network: Network = "none"
    limits: Limits = Limits()
    key: str = "workspace"


class Done(Struct, frozen=True):
    """What a program came to."""

    exit: Exit
    out: bytes
    err: str
    """Its last lines."""

    @property
    def is_good(self) -> bool:
        """Whether it ended well."""
        return self.exit.code == 0


class TooMuch(Exception):
    """It printed more than is taken."""


async def run(
    spawner: Spawner,
    argv: tuple[str, ...],
    *,
    place: Room,
    env: Mapping[str, str],
    seconds: float,
    stdin: bytes = b"",
    most_bytes: int = OUTPUT_BYTES,
    keeps_last: bool = False,
    attend: Callable[[Worker], None] = lambda _worker: None,
) -> Done:
    """Runs a program behind walls until it ends; `keeps_last`: of a longer output the end is kept. `attend`
    is called with it as soon as it runs. Raises TimeoutError, TooMuch, WorkspaceFailed.
    """
    request = SpawnRequest(
        argv=argv,
        env=base_environment(place.home) | dict(env),
        cwd=place.work,
        home=place.home,
        session_key=place.key,
        uid=place.uid,
        sandbox=Sandbox(network=place.network, readable=place.readable),
        limits=place.limits,
    )
    try:
        worker = await spawner.spawn(request)
    except StartFailed as error:
        raise WorkspaceFailed(f"A program for the workspace could not be started: {error}") from error
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(worker.stop, grace_seconds=0)
        stack.enter_context(os.fdopen(worker.stdout, "rb", buffering=0))
        feeding = asyncio.create_task(_feed(worker.stdin, stdin))
        stack.callback(feeding.cancel)
        attend(worker)
        async with asyncio.timeout(seconds):
            out = await _read(worker.stdout, most_bytes, keeps_last=keeps_last)
            ended = await asyncio.shield(worker.exited)
        return Done(ended, out, worker.stderr_tail())


async def _feed(pipe: int, data: bytes) -> None:
    """Writes everything and closes; a reader that is gone wants no more."""
    os.set_blocking(pipe, False)
    rest = memoryview(data)
    try:
        while rest:
            try:
                rest = rest[os.write(pipe, rest[:_READ_BYTES]) :]
            except BlockingIOError:
                await until_writable(pipe)
            except OSError:
                return
    finally:
        os.close(pipe)


async def _read(pipe: int, most_bytes: int, *, keeps_last: bool) -> bytes:
    os.set_blocking(pipe, False)
    out = bytearray()
    while True:
        try:
            data = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            await until_readable(pipe)
            continue
        if not data:
            return bytes(out)
        out += data
        if len(out) > most_bytes:
            if not keeps_last:
                raise TooMuch
            del out[: len(out) - most_bytes]


# -- git ---------------------------------------------------------------------------------------------------


def environment(
    more: Mapping[str, str], *, secret: Secret | None = None, is_plain: bool = False
) -> dict[str, str]:
    """The variables of a git of the gateway's, and `more`. `is_plain`: http is spoken, too, which is for
    loopback.
    """
    config = dict(_HARDENED)
    if is_plain:
        config["protocol.http.allow"] = "always"
    if secret is not None:
        if secret.header:
            config[f"http.{secret.url}.extraHeader"] = secret.header
        if secret.ca_file:
            config["http.sslCAInfo"] = secret.ca_file
    numbered = {"GIT_CONFIG_COUNT": str(len(config))}
    for number, (name, value) in enumerate(config.items()):
        numbered |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return _VARIABLES | numbered | dict(more)


_REFUSED: Final = re.compile(
    r"authentication failed|could not read username|terminal prompts disabled|error: 40[13]|access denied",
    re.IGNORECASE,
)
_ABSENT: Final = re.compile(r"repository '.*' not found|error: 404", re.IGNORECASE)
_CUT: Final = re.compile(r"died of signal 25|index-pack output|file size limit", re.IGNORECASE)
"""A file became larger than it may be (SIGXFSZ): of a fetch, the pack."""
_FULL: Final = re.compile(r"no space left|disk quota", re.IGNORECASE)
_UNSOUND: Final = re.compile(r"fsck error|error in object|fsck_", re.IGNORECASE)
_DOWN: Final = re.compile(
    r"could not resolve|failed to connect|couldn't connect|connection (was )?(refused|reset|timed)|timed out"
    r"|error: 5\d\d|early eof|hung up|too slow|empty reply|ssl|certificate|redirect",
    re.IGNORECASE,
)


def raise_for(done: Done, *, doing: str, host: str, most_bytes: int = 0) -> None:
    """Nothing if it went well; else the error in words for people. `doing`: what it was about to do."""
    if done.is_good:
        return
    if done.exit.cause in ("disk", "apparent", "file_size") or (most_bytes and _CUT.search(done.err)):
        raise WorkspaceFailed(
            f"The repository is larger than the {most_bytes // MIB:,} MiB that it may be (max_bytes, or "
            "depth for less history, in the settings of the workspace)."
        )
    if done.exit.cause:
        raise WorkspaceFailed(f"Git was ended while it was {doing}: it reached the limit {done.exit.cause}.")
    said = last_words(done.err)
    if _FULL.search(done.err):
        raise WorkspaceFailed(f"The disk of this gateway is full, while git was {doing}. Nothing was lost.")
    if _UNSOUND.search(done.err):
        raise WorkspaceFailed(f"Git refuses what changed, because servers would: {said}")
    if _REFUSED.search(done.err):
        raise RepositoryRefused(
            f"{host} did not accept the credential, which may be missing or expired. Set a new one and try "
            "again."
        )
    if _ABSENT.search(done.err):
        raise RepositoryRefused(
            f"{host} knows no such repository, or the credential may not see it. Set one that may, and try "
            "again."
        )
    if _DOWN.search(done.err):
        raise RepositoryUnreachable(f"{host} cannot be reached now. Try again later. Git says: {said}")
    raise WorkspaceFailed(f"Git failed while it was {doing}: {said or done.exit}")


def last_words(err: str) -> str:
    """The end of what git printed, for people."""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return " ".join(lines[-_LAST_LINES:])[-_WORDS_CHARACTERS:]


def masked(done: Done, secret: Secret | None) -> Done:
    """The same without the credential, should a server have sent it back."""
    err = done.err
    for value in secret.masked if secret is not None else ():
        err = err.replace(value, "…")
    return Done(done.exit, done.out, err)
