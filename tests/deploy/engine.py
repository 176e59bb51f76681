"""buildah and podman, unpacked from Debian's packages and not installed: a container engine for a while.

They run in a mount namespace in which the packages lie over this machine's /usr and /etc. Guarantees: what
they keep, images, volumes, what is in /run, lies in a directory of the test's; namespace, containers, control
groups and directory are gone when the block ends; no image of others is fetched.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import psutil
import pytest

from tests.debian import together
from tests.deploy.groups import PLACE, remove
from tests.deploy.machine import CERTIFICATES, TRUST
from tests.deploy.namespaces import sockets_inside
from tests.patience import crowding

PACKAGES: Final = (
    *("buildah", "podman", "runc", "conmon", "catatonit", "netavark"),
    *("golang-github-containers-common", "golang-github-containers-image"),
    *("libassuan0", "libdevmapper1.02.1", "libgpgme11", "libseccomp2", "libsubid4"),
)
BASE: Final = "localhost/python:base"
"""Stands for the public image that the Dockerfile begins with."""
PROFILE: Final = "/usr/share/containers/seccomp.json"
"""Which system calls the engine lets through by default."""
START_SECONDS: Final = 30
STOP_SECONDS: Final = 90
_ENVIRON: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FILES: Final = 1_048_576
_PROCESSES: Final = 32_768
"""What podman gives to a container by itself, and what may be more than it has."""
_PAUSE_SECONDS: Final = 0.05
_LAY: Final = r"""
set -e
mount -t overlay -o "lowerdir=$TOOLS/usr:/usr" tools /usr
for place in etc run; do
  lower="$TOOLS/$place:/$place" upper="$SCRATCH/$place" work="$SCRATCH/$place.work"
  mkdir -p "$TOOLS/$place" "$upper" "$work"
  mount -t overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work" tools /$place
done
echo laid
exec cat
"""


class Engine:
    """Builds images and makes containers of them."""

    def __init__(self, keeper: int, scratch: pathlib.Path) -> None:
        """`keeper`: a process in its mount namespace. `scratch`: where it keeps everything."""
        self._entered = ("nsenter", f"--mount=/proc/{keeper}/ns/mnt")
        self._environ = {**os.environ, **_settings(scratch)}
        self.scratch = scratch

    def tried(self, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs a program of the packages or of this machine."""
        return subprocess.run(
            [*self._entered, *command],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def run(self, *command: str, seconds: float = 60) -> str:
        """What a command says to standard output; it must succeed."""
        done = self.tried(*command, seconds=seconds)
        assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    def take_base(self, system: pathlib.Path) -> None:
        """Makes the base image of a directory with a whole system."""
        self.run("bash", "-c", f"tar -C {system} -c . | podman import -q --change 'ENV {_ENVIRON}' - {BASE}")

    def build(self, dockerfile: pathlib.Path, context: pathlib.Path, *, image: str, seconds: float) -> None:
        """Builds an image on the base. Its downloads trust whom this machine trusts; a page that was built
        from these sources already is taken as it is.
        """
        ignored = self.scratch / "ignored"
        ignored.write_text((context / ".dockerignore").read_text() + "!frontend/dist\n")
        self.run(
            *("buildah", "build", "--isolation=chroot", "--pull-never", "--format=docker"),
            *(f"--build-arg=PYTHON_IMAGE={BASE}", f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"),
            *(self._lent(text, at=path) for path, text in TRUST.items()),
            *(f"--ignorefile={ignored}", f"--file={dockerfile}", f"--tag={image}", str(context)),
            seconds=seconds,
        )

    def _lent(self, text: str, *, at: str) -> str:
        here = self.scratch / pathlib.Path(at).name
        here.write_text(text)
        return f"--volume={here}:{at}:ro"

    @contextlib.contextmanager
    def container(self, image: str, *options: str) -> Iterator[Container]:
        """A started container; its network is a loopback of its own."""
        made = self.run(
            *("podman", "create", f"--cgroup-parent=/{_groups_name()}", "--network=none"),
            *("--health-interval=disable", f"--ulimit=nproc={_most(resource.RLIMIT_NPROC, _PROCESSES)}"),
            *(*options, image),
        )
        try:
            container = Container(self, made)
            container.start()
            yield container
        finally:
            self.run("podman", "rm", "--force", "--time=5", made)

    @contextlib.contextmanager
    def pod(self, documents: pathlib.Path, *, container: str) -> Iterator[Container]:
        """A container of the pod that is in a file of Kubernetes', started with its volumes."""
        try:
            self.run("podman", "kube", "play", "--network=none", str(documents))
            yield Container(self, container)
        finally:
            self.run("podman", "kube", "down", str(documents))


class Container:
    """One container, by its id."""

    def __init__(self, engine: Engine, made: str) -> None:
        self._engine = engine
        self._id = made

    def start(self) -> None:
        """Starts it, also again."""
        self._engine.run("podman", "start", self._id)

    def stop(self) -> int:
        """Ends it as a compose file's `down` does; its exit code."""
        self._engine.run("podman", "stop", self._id, seconds=STOP_SECONDS)
        return self.ended()

    def ended(self) -> int:
        """Waits for its end; its exit code."""
        deadline = time.monotonic() + START_SECONDS * crowding()
        while (state := self.about()["State"])["Running"]:
            assert time.monotonic() < deadline, self.log()
            time.sleep(_PAUSE_SECONDS)
        return int(state["ExitCode"])

    def until_healthy(self) -> float:
        """The seconds until its own health check was content."""
        began = time.monotonic()
        while self._engine.tried("podman", "healthcheck", "run", self._id).returncode != 0:
            assert time.monotonic() < began + START_SECONDS, self.log()
            time.sleep(_PAUSE_SECONDS)
        return time.monotonic() - began

    def run(self, *command: str) -> str:
        """What a command in it says; it must succeed."""
        return self._engine.run("podman", "exec", self._id, *command)

    def log(self) -> str:
        """What it said."""
        done = self._engine.tried("podman", "logs", self._id)
        return done.stdout + done.stderr

    def changes(self) -> list[str]:
        """What is in its root beside the image's, a line each."""
        return self._engine.run("podman", "diff", self._id).splitlines()

    def about(self) -> Any:
        """What the engine knows of it."""
        return json.loads(self._engine.run("podman", "inspect", self._id))[0]

    @property
    def process(self) -> psutil.Process:
        """Its first process, as it is seen from outside."""
        return psutil.Process(self.about()["State"]["Pid"])

    def connector(self) -> aiohttp.TCPConnector:
        """Connects to its loopback."""
        return aiohttp.TCPConnector(socket_factory=sockets_inside(self.process.pid), force_close=True)


@contextlib.contextmanager
def engine(scratch: pathlib.Path) -> Iterator[Engine]:
    """An engine that keeps everything in `scratch`, which is removed. Skips where it cannot be had."""
    tools = together("containers", *PACKAGES)
    if tools is None:
        pytest.skip("NOT TESTED: buildah and podman cannot be fetched from Debian's packages")
    _configure(scratch)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch)
        before = _groups()
        stack.callback(lambda: remove(sorted(_groups() - before)))
        yield Engine(stack.enter_context(_kept(tools, scratch)), scratch)


@contextlib.contextmanager
def _kept(tools: pathlib.Path, scratch: pathlib.Path) -> Iterator[int]:
    """A process in the mount namespace, which lasts as long as it."""
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "bash", "-c", _LAY],  # noqa: S607
        env={**os.environ, "TOOLS": str(tools), "SCRATCH": str(scratch)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        if (said := process.stdout.readline()) != "laid\n":
            pytest.skip(f"NOT TESTED: Debian's packages cannot be laid over this machine's: {said}")
        try:
            yield process.pid
        finally:
            process.kill()


def _groups_name() -> str:
    return f"containers-{os.getpid()}"


def _groups() -> set[pathlib.Path]:
    """Ours, and those that podman makes for pods."""
    names = (_groups_name(), "libpod_parent")
    return {path for name in names for path in (*PLACE.glob(name), *PLACE.glob(f"*/{name}"))}


def _settings(scratch: pathlib.Path) -> dict[str, str]:
    return {
        "CONTAINERS_CONF": str(scratch / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(scratch / "storage.conf"),
    }


def _configure(scratch: pathlib.Path) -> None:
    places = {name: json.dumps(str(scratch / name)) for name in ("images", "volumes", "libpod", "networks")}
    (scratch / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = {places["images"]}\nrunroot = "/run/containers"\n'
    )
    files, processes = _most(resource.RLIMIT_NOFILE, _FILES), _most(resource.RLIMIT_NPROC, _PROCESSES)
    (scratch / "containers.conf").write_text(
        f'[containers]\nlog_driver = "k8s-file"\ndefault_ulimits = ["nofile={files}", "nproc={processes}"]\n'
        f"[network]\nnetwork_config_dir = {places['networks']}\n"
        f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nruntime = "runc"\n'
        f"static_dir = {places['libpod']}\nvolume_path = {places['volumes']}\n"
    )


def _most(limit: int, wanted: int) -> str:
    """A limit of a container's, soft and hard: as wanted, or what this process may have."""
    hard = resource.getrlimit(limit)[1]
    given = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    return f"{given}:{given}"
