"""What a spawner is asked for, and what it answers: the words that gateway, fork server and worker share.
Pure.

Guarantee: everything here is a frozen Struct that travels as JSON over one SEQPACKET datagram.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct

Profile = Literal["none", "basic", "strict"]
"""`none`: a process group and closed fds. `basic`: needs no privilege. `strict`: a private root and
namespaces.
"""
Network = Literal["shared", "none", "broker"]
"""`shared`: the machine's. `none`: none. `broker`: one of the worker's own, whose every connection and name
look-up ends in the gateway (`worker.sandbox.doors`); behind strict walls only.
"""
DOOR_PORT: Final = 3128
"""On 127.0.0.1 in a worker's own network: where the gateway itself is reached, and a proxy."""
FURTHER_DOORS: Final = 8
"""So many ports may be listed besides 80 and 443: each is one descriptor of the gateway a worker."""
PROFILES: Final[tuple[Profile, ...]] = ("none", "basic", "strict")
"""From the weakest to the strictest."""

MIB: Final = 1024 * 1024
KIB: Final = 1024

REQUEST_BYTES: Final = 160 * KIB
"""The longest request: the kernel's default for a datagram is 208 KiB (unix(7), net.core.wmem_default)."""

INNER_HOME: Final = "/session/home"
INNER_WORK: Final = "/session/work"
"""Where a strict worker finds its files, whatever the session and the machine."""


class Sandbox(Struct, frozen=True, kw_only=True):
    """The walls round one worker."""

    profile: Profile = "none"
    network: Network = "shared"
    readable: tuple[str, ...] = ()
    """Paths besides the system's and the interpreter's that may be read and executed."""
    writable: tuple[str, ...] = ()
    """Paths besides HOME and the working directory that may be written."""
    ports: tuple[int, ...] = ()
    """With the network `broker`: ports besides 80 and 443 at which connections are taken, `FURTHER_DOORS` at
    most.
    """


APPARENT_FACTOR: Final = 8
"""A file with holes is larger than what it takes on the disk. Images of disks and databases have holes; but
what copies them may fill the holes, and then they take all of it.
"""


class Limits(Struct, frozen=True, kw_only=True):
    """What one worker may use; 0 is no limit."""

    memory_bytes: int = 1024 * MIB
    """Of the whole tree where a cgroup or the watchdog counts, of each process otherwise (RLIMIT_DATA)."""
    processes: int = 256
    open_files: int = 1024
    cpu_seconds: int = 0
    """Of each process, over its whole life (RLIMIT_CPU)."""
    turn_cpu_seconds: int = 600
    """Of all processes together, in one turn; measured by the watchdog."""
    file_bytes: int = 1024 * MIB
    """The largest single file (RLIMIT_FSIZE)."""
    disk_bytes: int = 2048 * MIB
    """HOME and working directory together, on the disk; measured by the watchdog. Their sizes may add up to
    `APPARENT_FACTOR` times as much.
    """
    files: int = 50_000
    """Files and directories in HOME and working directory together; measured by the watchdog. Deleting a
    million takes minutes.
    """
    temporary_bytes: int = 64 * MIB
    """A strict worker's private /tmp and /dev/shm together, which are memory."""
    turn_seconds: int = 0
    """How long one answer may take; 0: what `sessions.turn_timeout_seconds` says. The gateway's to hold."""

    @property
    def apparent_bytes(self) -> int:
        """What the sizes of all files may add up to, holes too; 0 is no limit."""
        return self.disk_bytes * APPARENT_FACTOR

    def within(self, others: Mapping[str, int]) -> Limits:
        """These, and somebody else's over them, by the same names: of two the stricter holds."""
        merged = {
            name: min(limit, others.get(name, 0)) or max(limit, others.get(name, 0))
            for name, limit in msgspec.structs.asdict(self).items()
        }
        return Limits(**merged)


class SpawnRequest(Struct, frozen=True, kw_only=True):
    """One worker: what to run, where, as whom, behind which walls."""

    argv: tuple[str, ...]
    env: dict[str, str]
    """The whole environment; nothing is inherited."""
    cwd: str
    home: str
    session_key: str
    uid: int | None = None
    """None: the gateway's own user."""
    is_built_in: bool = False
    """Run the built-in agent, which the fork server has loaded, instead of `argv`."""
    sandbox: Sandbox = Sandbox()
    limits: Limits = Limits()
    is_freezable: bool = False
    """Whether it may be frozen while it is idle."""
    nice: int = 5
    """How much it gives way to others where CPU time is short: 0 to 19 (nice(2))."""


EndCause = Literal[
    "",
    "memory",
    "machine_memory",
    "processes",
    "disk",
    "apparent",
    "files",
    "cpu",
    "turn_cpu",
    "file_size",
    "forkserver_lost",
    "lease",
]


class Exit(Struct, frozen=True, kw_only=True):
    """How a worker's first process ended: an exit code, or the signal that killed it."""

    code: int | None = None
    signal: int | None = None
    cpu_seconds: float = 0.0
    cause: EndCause = ""
    """The limit that it passed, or the loss of its parent; empty if it ended by itself."""

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.signal else f"exit code {self.code}"


class Receipt(Struct, frozen=True, kw_only=True):
    """What the end of a worker came to. `survivors` must be 0."""

    processes: int = 0
    survivors: int = 0
    bytes_freed: int = 0
    milliseconds: int = 0


def counted_cpu_seconds(text: str) -> float:
    """CPU time out of `cpuacct.usage` (nanoseconds) or `cpu.stat` (`usage_usec` and others)."""
    words = text.split()
    if len(words) == 1 and words[0].isdigit():
        return int(words[0]) / 1e9
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    usage = pairs.get("usage_usec", "")
    return int(usage) / 1e6 if usage.isdigit() else 0.0


# -- the fork server's channel ---------------------------------------------------------------------------


class Spawn(Struct, frozen=True, kw_only=True, tag="spawn"):
    """Asks for a worker. Three descriptors come along: its stdin, stdout and stderr; a fourth with the
    network `broker`: the socket to which its doors are sent.

    The SpawnRequest follows this head on the next line of the same datagram: the fork server never decodes
    it, so that no worker inherits what was said for another.
    """

    id: int
    profile: Profile
    network: Network
    has_init: bool = False
    """Whether the worker is a command under the tiny init."""
    is_freezable: bool = False
    memory_bytes: int = 0
    processes: int = 0
    """The limits of its control group, if there are control groups; 0 is no limit."""


class Stop(Struct, frozen=True, kw_only=True, tag="stop"):
    """Asks for a worker's end: SIGTERM if it is gentle, else SIGKILL to all that it started."""

    id: int
    is_gentle: bool = False
    cause: EndCause = ""


class Reach(Struct, frozen=True, kw_only=True, tag="reach"):
    """Asks for sockets of a worker's own network. One descriptor comes along, to whose other end they are
    sent; it is closed without any if there are none to be had.
    """

    id: int


class Ping(Struct, frozen=True, kw_only=True, tag="ping"):
    """Asks for a sign of life."""


class GoOn(Struct, frozen=True, kw_only=True, tag="go_on"):
    """Until when the gateway may work: past that every worker rests, and past the end it is killed, unless
    another such word comes before. Nanoseconds of CLOCK_MONOTONIC, which is one for the whole machine.
    """

    until_ns: int
    end_ns: int


Mechanism = Literal["", "cgroup v1", "cgroup v2"]


class Counting(Struct, frozen=True, kw_only=True):
    """Which limits of a whole tree control groups hold here."""

    memory: Mechanism = ""
    processes: Mechanism = ""
    cpu: Mechanism = ""
    """What shares out CPU time between the workers and the gateway; empty: nice(2) alone."""
    directories: tuple[str, ...] = ()
    """What must be removed if the fork server dies without doing so."""
    freezers: tuple[str, ...] = ()
    """The same, in which only the groups are that can be frozen."""
    missing: str = ""
    """Why there is no more."""
    swept: int = 0
    """Empty groups of killed gateways that were removed."""


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    """The fork server has loaded and warmed up."""

    pid: int
    threads: int
    frozen_objects: int
    counting: Counting = Counting()


class Started(Struct, frozen=True, kw_only=True, tag="started"):
    """The worker's walls stand and it runs."""

    id: int
    pid: int
    memory_events: str = ""
    processes_events: str = ""
    """Files in which the kernel counts what the limits refused; empty if it does not hold them."""
    cpu_file: str = ""
    """In which it counts CPU time; empty if it does not."""
    freezer_file: str = ""
    """By which everything in its group is frozen and thawed; empty if nothing is."""


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """The worker could not be started; `words` say why, for the user."""

    id: int
    words: str


class ProcessEnded(Struct, frozen=True, kw_only=True, tag="ended"):
    """The worker's first process is reaped and nothing of it lives, but for `survivors`."""

    id: int
    exit: Exit
    processes: int = 1
    survivors: int = 0


class Pong(Struct, frozen=True, kw_only=True, tag="pong"):
    """The answer to a Ping."""


ToForkServer = Spawn | Stop | Reach | Ping | GoOn
FromForkServer = Ready | Started | Failed | ProcessEnded | Pong

decode_order: Final = msgspec.json.Decoder(ToForkServer).decode
decode_report: Final = msgspec.json.Decoder(FromForkServer).decode
decode_request: Final = msgspec.json.Decoder(SpawnRequest).decode
encode: Final = msgspec.json.Encoder().encode
