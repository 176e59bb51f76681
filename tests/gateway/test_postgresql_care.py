"""What an operator does with a gateway on PostgreSQL: backups of it at work, restores, `doctor`."""

from __future__ import annotations

import pathlib

from gateway.maintenance import backup
from tests.contract.engines import migrated_database
from tests.inside import gateway_inside
from tests.integration.test_backup import said
from tests.integration.test_command_line import typed


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
        code, _, err = await typed("restore", str(file), *options)
        assert (code, "is in use by process" in err) == (1, True)
        await gateway.delete("gone")
        await gateway.chat("kept", "/echo two")
        code, out, err = await typed("doctor", *options)
        lines = out.splitlines()
        assert any("PostgreSQL" in line and line.startswith("ok") for line in lines), out
        assert any("commits: p50" in line for line in lines)
        assert any("no pooler in between" in line for line in lines)
        assert any("in use by the gateway on" in line for line in lines)
        assert "FAIL  fsync = off: what is committed is lost with the machine's power" in lines

    code, _, err = await typed("restore", str(file), *options)
    assert (code, "The database has rows already. Say --replace" in err) == (1, True)
    code, out, err = await typed("restore", str(file), "--replace", *options)
    assert code == 0, err
    assert "erased again, as it was erased after that: 1 sessions" in out
    assert (next((tmp_path / "data").glob("replaced-*")) / "gateway.db").exists()
    async with gateway_inside(tmp_path, config=config) as gateway:
        assert said(await gateway.state("kept"), "user") == ["one"]
        await gateway.chat("kept", "/echo three")
        assert (await gateway.state("gone"))["ended"]["reason"] == "deleted"

    elsewhere = tmp_path / "sqlite"
    elsewhere.mkdir()
    code, _, err = await typed("restore", str(file), "--data-dir", str(elsewhere / "data"))
    assert code == 0, err
    async with gateway_inside(elsewhere) as gateway:
        assert said(await gateway.state("kept"), "user") == ["one"]
    assert backup.verify(file).sessions == 2
