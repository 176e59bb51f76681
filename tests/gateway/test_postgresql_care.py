"""What an operator does with a gateway on PostgreSQL: backups of it at work, restores, `doctor`."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from gateway.config.file import load
from gateway.errors import StoreFailed
from gateway.maintenance import backup
from gateway.maintenance.archive import BackupFailed
from tests.contract.engines import migrated_database
from tests.inside import gateway_inside
from tests.integration.test_backup import said
from tests.integration.test_command_line import typed
from tests.postgres import connected


async def test_a_gateway_on_postgresql_is_backed_up_and_restored_into_any_engine(
    tmp_path: pathlib.Path,
) -> None:
    url = migrated_database()
    config = f'store = "{url}"\n'
    options = ("--config", str(tmp_path / "config.toml"), "--data-dir", str(tmp_path / "data"))
    file = tmp_path / "backup.tar"
    async with gateway_inside(tmp_path, config=config) as gateway:
        await gateway.chat("kept", "/echo one")
        await gateway.chat("gone", "/echo erase me")
        code, _, err = await typed("backup", str(file), *options)
        assert (code, err.splitlines()[0].startswith("2 sessions, ")) == (0, True), err
        with pytest.raises(StoreFailed, match="is in use by process"):
            await asyncio.to_thread(backup.restore, gateway.inner.config, file)
        await gateway.delete("gone")
        await gateway.chat("kept", "/echo two")
        code, out, err = await typed("doctor", *options)
        lines = out.splitlines()
        assert any("PostgreSQL" in line and line.startswith("ok") for line in lines), out
        assert any("commits: p50" in line for line in lines)
        assert any("no pooler in between" in line for line in lines)
        assert any("in use by the gateway on" in line for line in lines)
        assert "FAIL  fsync = off: what is committed is lost with the machine's power" in lines

    on_postgresql = load(tmp_path / "config.toml", overrides={"data_dir": str(tmp_path / "data")})
    with pytest.raises(BackupFailed, match="The database has rows already"):
        await asyncio.to_thread(backup.restore, on_postgresql, file)
    code, out, err = await typed("restore", str(file), "--replace", *options)
    assert code == 0, err
    assert "erased again, as it was erased after that: 1 sessions" in out
    assert (next((tmp_path / "data").glob("replaced-*")) / "gateway.db").exists()
    async with gateway_inside(tmp_path, config=config) as gateway:
        assert said(await gateway.state("kept"), "user") == ["one"]
        await gateway.chat("kept", "/echo three")
        assert (await gateway.state("gone"))["ended"]["reason"] == "deleted"

    async with connected(url) as connection:  # as one that was cut leaves it
        await connection.execute("CREATE TABLE store_copying (what text PRIMARY KEY)")
        await connection.execute("TRUNCATE sessions CASCADE")
    (tmp_path / "data" / "restore.unfinished").touch()
    done = await asyncio.to_thread(backup.restore, on_postgresql, file)
    assert (done.manifest.sessions, done.ended.sessions) == (2, 1)

    elsewhere = tmp_path / "sqlite"
    elsewhere.mkdir()
    on_sqlite = load(overrides={"data_dir": str(elsewhere / "data")})
    await asyncio.to_thread(backup.restore, on_sqlite, file)
    async with gateway_inside(elsewhere) as gateway:
        assert said(await gateway.state("kept"), "user") == ["one"]
    assert backup.verify(file).sessions == 2
