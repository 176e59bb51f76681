"""The image, really built by the Dockerfile and really run as the compose file says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import resource
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import aiohttp
import psutil
import pytest
import yaml  # type: ignore[import-untyped]
from msgspec import Struct

from tests.deploy.charts import rendered
from tests.deploy.engine import PROFILE, Container, Engine, engine
from tests.deploy.groups import PLACE
from tests.deploy.systems import base
from tests.deploy.tools import DEPLOY
from tests.gateways import ROOT
from tests.patience import within
from tests.shared import crowding
from tests.streams import open_stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONTAINER: Final = DEPLOY / "container"
CHART: Final = DEPLOY / "helm" / "agent-gateway"
IMAGE: Final = "localhost/agent-gateway:test"
URL: Final = "http://127.0.0.1:8080"
BUILD_SECONDS: Final = 240
WHY_NOT_STRICT: Final = {"as podman does": "mount /sys/proc", "as Docker does": "no namespaces of its own"}
START_SECONDS: Final = 4.0
"""It takes one, on two cores; a gateway that waits for what it cannot remove took five."""
_MORE_THAN_A_PROFILE_LETS: Final = {"mount", "pivot_root", "setns", "umount", "umount2", "unshare"}
_NAMESPACES: Final = 0x7E02_0000
"""The flags of clone(2) that make one."""


class Profile(Struct, frozen=True):
    """Which system calls a container has: the engine's options for it, and why it has no strict walls."""

    options: list[str]
    words: str


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that has built the image."""
    system = base()
    with engine(tmp_path_factory.mktemp("engine")) as made:
        made.take_base(system)
        began = time.monotonic()
        made.build(CONTAINER / "Dockerfile", ROOT, image=IMAGE, seconds=BUILD_SECONDS)
        size = int(made.run("podman", "image", "inspect", "--format={{.Size}}", IMAGE)) / 1e6
        print(f"\nbuilt in {time.monotonic() - began:.0f} s, {size:.0f} MB with its base")  # noqa: T201
        yield made


def _compose(*, strict: bool = False) -> Any:
    """The gateway's service; `strict`: with the options for strict walls, which stand there as a comment."""
    text = (CONTAINER / "compose.yaml").read_text()
    if strict:
        text, found = re.subn(r"# (- \w+=unconfined)", r"\1", text)
        assert found == 3
    return yaml.safe_load(text)["services"]["gateway"]


def _options(service: Any, config: pathlib.Path, *more: str, data: str) -> list[str]:
    """What the service says, in podman's words."""
    files = min(service["ulimits"]["nofile"], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert service["volumes"] == ["data:/data", "./config.toml:/etc/agent-gateway/config.toml:ro"]
    return [
        *(["--init"] if service["init"] else []),
        *(["--read-only", "--read-only-tmpfs=false"] if service["read_only"] else []),
        *(f"--tmpfs={place}" for place in service["tmpfs"]),
        *(f"--cap-drop={capability}" for capability in service["cap_drop"]),
        *(f"--security-opt={option}" for option in service["security_opt"]),
        *(f"--volume={data}:/data", f"--volume={config}:/etc/agent-gateway/config.toml:ro"),
        f"--stop-timeout={service['stop_grace_period'].removesuffix('s')}",
        f"--memory={service['mem_limit']}",
        f"--ulimit=nofile={files}:{files}",
        *more,
    ]


def _configured(tmp_path: pathlib.Path, *, workers: str) -> pathlib.Path:
    """config.toml with another [workers]."""
    text, found = re.subn(
        r'^require = "basic"$', workers, (CONTAINER / "config.toml").read_text(), flags=re.M
    )
    assert found == 1
    (tmp_path / "config.toml").write_text(text)
    return tmp_path / "config.toml"


@contextlib.asynccontextmanager
async def _talking(container: Container, key: str) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(URL, headers=headers, connector=container.connector()) as http:
        yield http


async def _said(http: aiohttp.ClientSession, word: str) -> list[str]:
    """Everything in the session after the agent's answer."""
    body = {"session_id": "a", "message": f"/echo {word}"}
    async with http.post("/api/chat", params={"wait": 30}, json=body) as response:
        state: Any = await response.json()
    assert response.status == 200, state
    return [message["content"] for message in state["messages"]]


async def _walls(http: aiohttp.ClientSession) -> str:
    """Those of the session's worker."""
    async with open_stream(http, "a") as stream:
        return str((await stream.until_event("agent_started")).data["walls"])


def _key(container: Container) -> str:
    return container.run("agent-gateway", "keys", "create", "tester")


async def test_it_runs_as_the_compose_file_says_and_keeps_what_was_said(here: Engine) -> None:
    service, config = _compose(), CONTAINER / "config.toml"
    with here.container(IMAGE, *_options(service, config, data="kept")) as container:
        seconds = container.until_healthy()
        assert seconds < START_SECONDS * crowding()
        _is_confined(container.process.children()[0])
        key = _key(container)
        parts = json.loads(container.run("cat", "/opt/agent-gateway/share/sbom.cdx.json"))["components"]
        assert {"starlette", "preact"} <= {part["name"] for part in parts}
        async with _talking(container, key) as http:
            assert await _said(http, "before") == ["/echo before", "before"]
            walls = await _walls(http)
        assert f"walls: {walls}" in container.run("agent-gateway", "doctor")
        assert walls == "basic"
        _has_written_only_data(container)
        assert container.stop() == 0
        container.start()
        container.until_healthy()
        async with _talking(container, key) as http:
            assert await _said(http, "after") == ["/echo before", "before", "/echo after", "after"]
        assert container.stop() == 0
    with here.container(IMAGE, *_options(service, config, data="kept")) as container:
        container.until_healthy()
        async with _talking(container, key) as http:
            assert (await _said(http, "new"))[:2] == ["/echo before", "before"]
    print(f"\nhealthy after {seconds:.1f} s, walls: {walls}, the same history in three containers' lives")  # noqa: T201


def _is_confined(gateway: psutil.Process) -> None:
    assert gateway.uids().real == gateway.gids().real == 10_001
    status = pathlib.Path(f"/proc/{gateway.pid}/status").read_text()
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
        assert line in status
    groups = pathlib.Path(f"/proc/{gateway.pid}/cgroup").read_text()
    assert _memory_limit(groups) == 2 * 1024**3


def _memory_limit(groups: str) -> int:
    """What the kernel holds for the whole container."""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return int((PLACE / "memory" / path.lstrip("/") / "memory.limit_in_bytes").read_text())
    return int((PLACE / groups.strip().rpartition(":")[2].lstrip("/") / "memory.max").read_text())


def _has_written_only_data(container: Container) -> None:
    mounted = {"C /etc", "A /etc/agent-gateway", "A /etc/agent-gateway/config.toml"}
    assert set(container.changes()) <= mounted
    assert not container.run("find", "/tmp", "/dev/shm", "-type", "f")
    assert container.run("sh", "-c", "touch /opt/new 2>&1 || true").endswith("Read-only file system")
    assert container.run("find", "/data", "-name", "gateway.db")


def _without_user_namespaces(here: Engine, tmp_path: pathlib.Path) -> pathlib.Path:
    """The engine's own profile of system calls, and of it only what makes no namespaces and no mounts: what
    Docker lets through by default.
    """
    profile = json.loads(here.run("cat", PROFILE))
    for rule in profile["syscalls"]:
        if not rule.get("includes", {}).get("caps"):
            rule["names"] = [
                n for n in rule["names"] if n not in {*_MORE_THAN_A_PROFILE_LETS, "clone", "clone3"}
            ]
    plain = {"index": 0, "value": _NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
    profile["syscalls"] += [
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [plain]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": []},
    ]
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    return tmp_path / "profile.json"


@pytest.fixture(params=list(WHY_NOT_STRICT))
def profile(request: pytest.FixtureRequest, here: Engine, tmp_path: pathlib.Path) -> Profile:
    """What a container is kept from, by default and by more, and the words for it."""
    words = WHY_NOT_STRICT[request.param]
    if request.param == "as podman does":
        return Profile([], words)
    return Profile([f"--security-opt=seccomp={_without_user_namespaces(here, tmp_path)}"], words)


async def test_where_strict_walls_cannot_be_had_the_start_is_refused_if_they_are_required(
    here: Engine, tmp_path: pathlib.Path, profile: Profile
) -> None:
    config = _configured(tmp_path, workers='require = "strict"')
    with here.container(
        IMAGE, *_options(_compose(), config, *profile.options, data=tmp_path.name)
    ) as container:
        assert container.ended() == 1
        last = container.log().strip().splitlines()[-1]
    assert last.startswith(
        "agent-gateway: The walls that workers.require asks for cannot be built here. strict:"
    )
    assert profile.words in last
    print(f"\n{last}")  # noqa: T201


async def test_where_strict_walls_cannot_be_had_it_goes_on_with_basic_ones_if_it_may(
    here: Engine, tmp_path: pathlib.Path, profile: Profile
) -> None:
    config = _configured(tmp_path, workers='sandbox = "auto"')
    with here.container(
        IMAGE, *_options(_compose(), config, *profile.options, data=tmp_path.name)
    ) as container:
        container.until_healthy()
        async with _talking(container, _key(container)) as http:
            assert await _said(http, "hello") == ["/echo hello", "hello"]
            assert await _walls(http) == "basic"
        log = container.log()
    assert "strict walls cannot be built here" in log
    assert profile.words in log


async def test_the_options_that_stand_in_the_compose_file_give_strict_walls(
    here: Engine, tmp_path: pathlib.Path
) -> None:
    config = _configured(tmp_path, workers='require = "strict"')
    with here.container(IMAGE, *_options(_compose(strict=True), config, data=tmp_path.name)) as container:
        container.until_healthy()
        async with _talking(container, _key(container)) as http:
            assert await _said(http, "hello") == ["/echo hello", "hello"]
            assert await _walls(http) == "strict"
        _is_confined(container.process.children()[0])


async def test_the_pod_of_the_chart_runs(here: Engine, tmp_path: pathlib.Path) -> None:
    """By podman's reading of Kubernetes' files, which knows neither its StatefulSet nor its network."""
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump_all(_pod(tmp_path.name)))
    with here.pod(tmp_path / "pod.yaml", container=f"{tmp_path.name}-gateway") as container:
        data = ("--data-dir", "/data/gateway")
        async with _talking(container, "") as http:
            await _until_ready(http)
        key = container.run("agent-gateway", "keys", "create", "tester", *data)
        async with _talking(container, key) as http:
            assert await _said(http, "hello") == ["/echo hello", "hello"]
            assert await _walls(http) == "basic"
        assert "walls: basic" in container.run("agent-gateway", "doctor", *data)
        _is_confined(container.process)
        assert container.run("sh", "-c", "touch /opt/new 2>&1 || true").endswith("Read-only file system")


def _pod(name: str) -> list[Any]:
    """The first pod of the chart's StatefulSet as its controller makes it, its claim, its configuration."""
    by_kind = {document["kind"]: document for document in rendered(CHART, image=IMAGE)}
    template = by_kind["StatefulSet"]["spec"]["template"]
    [claim] = by_kind["StatefulSet"]["spec"]["volumeClaimTemplates"]
    source = {"claimName": f"{claim['metadata']['name']}-{name}"}
    template["spec"]["volumes"].append({"name": claim["metadata"]["name"], "persistentVolumeClaim": source})
    del template["spec"]["containers"][0]["ports"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"]["name"] = name
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim}
    claim["metadata"] = {"name": source["claimName"]}
    return [by_kind["ConfigMap"], claim, pod]


async def _until_ready(http: aiohttp.ClientSession) -> None:
    """Asks what the chart's probes ask."""
    async with within(START_SECONDS):
        for path in ("/livez", "/readyz"):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(path) as response:
                        if response.status == 200:
                            break
                await asyncio.sleep(0.05)
