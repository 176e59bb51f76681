"""One gateway for all tests of a module, which keep apart by session ids: starting one for each would take
longer than what they test. A module says `gateway = shared_gateway(…)` and `pytestmark = SHARED`."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio
from msgspec import Struct

from tests.gateways import RunningGateway, Scenario, running_gateway
from tests.inside import gateway_inside
from tests.patience import crowding as crowding
from tests.patience import within
from tests.ports import free_port as free_port

SHARED: Final = pytest.mark.asyncio(loop_scope="module")
LONGEST_PAUSE: Final = 0.1
_numbers = itertools.count(1)


def shared_gateway(
    config: str = "",
    *,
    agents: Mapping[str, Scenario] | None = None,
    environ: Mapping[str, str] | None = None,
    is_process: bool = False,
) -> Any:
    """The fixture `gateway` of a module; `agents` are scripted ones: name → scenario. It is in the loop of
    the tests, unless it has to be a process.
    """

    @pytest_asyncio.fixture(scope="module", loop_scope="module")
    async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
        directory = tmp_path_factory.mktemp("gateway")
        start = running_gateway if is_process else gateway_inside
        async with start(directory, config=config, agents=agents, environ=environ) as running:
            yield running

    return gateway


class Answer(Struct):
    """What came back: status, body (decoded where it is JSON), headers."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def code(self) -> str:
        """The slug of an error; faces that say `detail` have none but the status."""
        if "error" not in self.body:
            return {401: "unauthorized", 403: "forbidden"}[self.status]
        return str(self.body["error"]["code"])


async def ask(
    http: aiohttp.ClientSession, method: str, path: str, body: object = None, **kwargs: Any
) -> Answer:
    """One request, read to its end."""
    async with http.request(method, path, json=body, allow_redirects=False, **kwargs) as response:
        text = await response.text()
        is_json = response.content_type == "application/json"
        return Answer(response.status, json.loads(text) if is_json else text, response.headers)


def fresh_id(name: str = "s") -> str:
    """A session id that no other test uses."""
    return f"{name}-{next(_numbers)}"


def forged(text: str) -> str:
    """A token that differs in one letter; not in the last one, which may hold bits that mean nothing."""
    return f"{text[:-2]}{'B' if text[-2] == 'A' else 'A'}{text[-1]}"


async def eventually(holds: Callable[[], Awaitable[bool]], *, seconds: float = 15) -> None:
    """Returns when it holds; for what no event tells."""
    pause = 0.01
    async with within(seconds):
        while not await holds():
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)  # what is asked costs more than the time between
