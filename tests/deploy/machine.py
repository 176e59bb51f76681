"""A machine that systemd runs: a small Debian with a real systemd as its process 1, in namespaces of its own.

Guarantees: what it writes goes into a directory of the test's, its network is its own loopback, and nothing
of it, process, mount or control group, is left when the block ends. What systemd sets for the whole kernel at
its start is set back.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Final

import aiohttp
import psutil

from tests.deploy.groups import PLACE, group, hierarchies
from tests.deploy.namespaces import sockets_inside
from tests.gateways import ROOT
from tests.patience import crowding

BOOT_SECONDS: Final = 60
CHECKOUT: Final = "/src"
"""Where the machine sees this repository; what it writes there stays its own."""
CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
TRUST: Final = {
    "/etc/pip.conf": f"[global]\ncert={CERTIFICATES}\n",
    "/root/.npmrc": f"cafile={CERTIFICATES}\n",
}
"""What makes downloads trust whom this machine trusts, with those certificates beside it."""
_PAUSE_SECONDS: Final = 0.05
_KERNEL: Final = (pathlib.Path("/proc/sys/fs/nr_open"), pathlib.Path("/proc/sys/fs/file-max"))
_MASKED: Final = (
    *("systemd-sysctl.service", "systemd-modules-load.service", "systemd-logind.service"),
    *("console-getty.service", "timers.target"),
)
"""They would change the kernel that all share, want a bus or a terminal, or bring packages up to date."""
_IDENTITY: Final = {
    "/etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "/etc/hostname": "localhost\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
}
_ENVIRON: Final = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root")
_BOOT: Final = r"""
set -e
mount -t overlay -o "lowerdir=$SYSTEM,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" machine "$SCRATCH/root"
cd "$SCRATCH/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
touch dev/console
[ -z "$HYBRID" ] || mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
for each in $HIERARCHIES; do
  at=sys/fs/cgroup/${each%%:*} options=${each#*:}
  mkdir -p $at
  if [ -n "$options" ]; then mount -t cgroup -o "$options" cgroup $at; else mount -t cgroup2 cgroup2 $at; fi
done
mkdir -p .$CHECKOUT .${CERTIFICATES%/*}
mount -t overlay -o "lowerdir=$REPOSITORY,upperdir=$SCRATCH/src,workdir=$SCRATCH/src.work" src .$CHECKOUT
touch .$CERTIFICATES
mount --bind $CERTIFICATES .$CERTIFICATES
pivot_root . .
umount -l .
exec env -i container=other $ENVIRON /lib/systemd/systemd --log-target=console --unit=multi-user.target
"""


class Machine:
    """A booted one: commands in it, and connections to its loopback."""

    def __init__(self, pid: int, console: pathlib.Path) -> None:
        self.pid = pid
        """Of its systemd, as it is seen from outside."""
        self._console = console

    def tried(self, script: str, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Lines of shell as root in the machine, in the repository; they reach the network of this side."""
        entered = [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--cgroup",
            "--root",
        ]
        return subprocess.run(
            [*entered, "env", "-i", *_ENVIRON, "bash", "-ec", f"cd {CHECKOUT}\n{script}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )

    def run(self, script: str, *, seconds: float = 60) -> str:
        """What lines of shell say; they must succeed."""
        done = self.tried(script, seconds=seconds)
        assert done.returncode == 0, f"{script}: {done.stdout}"
        return done.stdout.strip()

    def connector(self) -> aiohttp.TCPConnector:
        """Connects to the machine's own loopback."""
        return aiohttp.TCPConnector(socket_factory=sockets_inside(self.pid), force_close=True)

    def console(self) -> str:
        """What systemd said."""
        return self._console.read_text()

    def until_booted(self) -> None:
        """Returns when everything has started that starts by itself."""
        deadline = time.monotonic() + BOOT_SECONDS * crowding()
        while self.tried("systemctl is-system-running").stdout.strip() not in ("running", "degraded"):
            assert time.monotonic() < deadline, self.console()
            time.sleep(_PAUSE_SECONDS)


@contextlib.contextmanager
def booted(base: pathlib.Path, scratch: pathlib.Path) -> Iterator[Machine]:
    """A machine whose system is `base`, which it does not change; `scratch` is removed."""
    _prepare(scratch)
    kernel = {setting: setting.read_text() for setting in _KERNEL}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch)
        places = stack.enter_context(group(f"machine-{os.getpid()}"))
        process = stack.enter_context(_started(base, scratch, places))
        stack.callback(_set_back, kernel)
        machine = Machine(_first(process), scratch / "console")
        machine.until_booted()
        yield machine


def _prepare(scratch: pathlib.Path) -> None:
    for name in ("upper/etc/systemd/system", "upper/root", "work", "root", "src", "src.work"):
        (scratch / name).mkdir(parents=True)
    for path, text in {**_IDENTITY, **TRUST}.items():
        (scratch / f"upper{path}").write_text(text)
    for unit in _MASKED:
        (scratch / "upper/etc/systemd/system" / unit).symlink_to("/dev/null")


@contextlib.contextmanager
def _started(
    base: pathlib.Path, scratch: pathlib.Path, places: list[pathlib.Path]
) -> Iterator[subprocess.Popen[bytes]]:
    """Its parent, from inside of the groups that the machine is to have for its roots."""
    entering = "".join(f"echo $$ > {place}/cgroup.procs; " for place in places)
    apart = "unshare --mount --propagation=private --pid --fork --kill-child --uts --ipc --net --cgroup"
    command = ["bash", "-c", f'{entering} exec {apart} bash -c "$BOOT"']
    environ = {**os.environ, "BOOT": _BOOT, **_variables(base, scratch)}
    with (scratch / "console").open("wb") as console:
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _variables(base: pathlib.Path, scratch: pathlib.Path) -> dict[str, str]:
    return {
        "SYSTEM": str(base),
        "SCRATCH": str(scratch),
        "HYBRID": "" if (PLACE / "cgroup.procs").exists() else "1",
        "HIERARCHIES": " ".join(f"{each.at}:{each.options}" for each in hierarchies()),
        "REPOSITORY": str(ROOT),
        "CHECKOUT": CHECKOUT,
        "CERTIFICATES": CERTIFICATES,
        "ENVIRON": " ".join(_ENVIRON),
    }


def _first(process: subprocess.Popen[bytes]) -> int:
    """The pid of the machine's process 1, when it is systemd."""
    deadline = time.monotonic() + BOOT_SECONDS * crowding()
    while time.monotonic() < deadline and process.poll() is None:
        for child in psutil.Process(process.pid).children():
            if child.name() == "systemd":
                return child.pid
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError("systemd did not start")


def _set_back(kernel: dict[pathlib.Path, str]) -> None:
    for setting, value in kernel.items():
        if setting.read_text() != value:
            setting.write_text(value)
