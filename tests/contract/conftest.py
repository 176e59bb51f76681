"""A store of every engine, opened."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.stores.contract import Store
from tests.contract.engines import ENGINES


@pytest_asyncio.fixture(params=ENGINES)
async def store(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    engine = ENGINES[request.param]
    for module, name, value in engine.settings:
        monkeypatch.setattr(module, name, value)
    made = engine.made(tmp_path)
    await made.open()
    yield made
    await made.close()
