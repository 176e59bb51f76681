"""Every command and configuration of docs/product-chat.md does what the page says."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import shutil
import sqlite3
from typing import Final

import pytest

from gateway.apps.product_chat.settings import ProductsConfig
from gateway.config.file import load
from tests.gateways import ROOT
from tests.products.shop import running_shop

PAGE: Final = (ROOT / "docs" / "product-chat.md").read_text()


def blocks(language: str) -> list[str]:
    """The page's blocks in a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


async def test_every_command_runs_and_the_query_counts(tmp_path: pathlib.Path) -> None:
    if shutil.which("curl") is None:
        words = "the page's commands are NOT tested: curl is missing"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
    expected = ("created successfully", "sent successfully", '"total_count"', "Chat session is active")
    async with running_shop(tmp_path) as shop:
        for command, words in zip(blocks("sh"), expected, strict=True):
            process = await asyncio.create_subprocess_shell(
                command.replace("http://127.0.0.1:8080", shop.gateway.url),
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await asyncio.wait_for(process.communicate(), 30)
            assert words in output.decode(), (command, output.decode())
    database = sqlite3.connect(tmp_path / "data" / "gateway.db")
    name, count, by_people = database.execute(blocks("sql")[0]).fetchone()
    database.close()
    assert (name, by_people) == ("Cedar birdhouse", 1)
    assert count >= 3


def test_the_configuration_is_one(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(blocks("toml")[0])
    assert "ruth" in load(file, environ={}).of(ProductsConfig).admins
