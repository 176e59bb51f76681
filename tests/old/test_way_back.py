"""Going back to an earlier version after this one ran on its data directory, with that version's own code
from the history of the repository.
"""

from __future__ import annotations

import pathlib
import sys
import tarfile
from typing import Any, Final

import pytest

from tests.integration.test_command_line import typed
from tests.old.make import KEPT, Kept, readings, say
from tests.old.test_old import kept_of, put
from tests.old.versions import CONFIG, Asker, NoHistory, Version, serving, unpacked
from tests.patience import soon

HERE: Final = (sys.executable, "-m", "gateway")


def version_of(name: str, directory: pathlib.Path) -> Version:
    try:
        return unpacked(kept_of(name).commit, directory)
    except NoHistory as error:
        pytest.skip(f"NOT TESTED: the code of {name} is not in this copy of the history: {error}")


async def said(program: tuple[str, ...], place: pathlib.Path, kept: Kept, text: str) -> list[str]:
    """Serves with a program, says something in a session, and ends it as a service manager does; everything
    that was said in that session.
    """
    async with serving(program, place) as running, Asker(running.url, kept.who) as asker:
        state = await say(asker, "finished", f"/echo {text}")
        await ended(running)
    return [message["content"] for message in state["messages"]]


async def ended(running: Any) -> None:
    running.process.terminate()
    assert await soon(running.process.wait(), 60) == 0


async def used_by_this_version(name: str, place: pathlib.Path) -> Kept:
    """Lays out what a version left, and its backup, and lets this one go on with it and erase a session."""
    put(name, place)
    with tarfile.open(KEPT / name / "backup.tar.xz") as tar:
        tar.extractall(place, filter="data")
    kept = kept_of(name)
    async with serving(HERE, place) as running, Asker(running.url, kept.who) as asker:
        await say(asker, "finished", "/echo newer")
        await asker.done("alice", "DELETE", "/api/sessions/tools")
        await ended(running)
    return kept


async def test_0_1_0_refuses_the_newer_database_and_restores_the_backup_that_it_made(
    tmp_path: pathlib.Path,
) -> None:
    """A newer backup it refuses, too. What was said since is kept aside, what was erased since stays erased,
    and the way forward is open.
    """
    old, place = version_of("0.1.0", tmp_path), tmp_path / "place"
    kept = await used_by_this_version("0.1.0", place)
    settings = ("--config", str(place / CONFIG))
    code, _, err = await old.typed("serve", *settings)
    assert code == 1
    assert "is of schema 6, this program knows up to 5" in err
    code, _, err = await typed("backup", str(place / "newer.tar"), *settings)
    assert code == 0, err
    code, _, err = await old.typed("restore", "--replace", str(place / "newer.tar"), *settings)
    assert code == 1
    assert "which is newer than this program (0.1.0): restore it with that one" in err
    code, out, err = await old.typed("restore", "--replace", str(place / "backup.tar"), *settings)
    assert code == 0, err
    assert "erased again, as it was erased after that: 1 sessions" in out
    assert next((place / "data").glob("replaced-*/gateway.db")).stat().st_size
    async with serving(old.program, place) as running, Asker(running.url, kept.who) as asker:
        tools = next(
            a
            for a in await readings(asker, kept.share, kept.version)
            if a.path.endswith("state?session_id=tools")
        )
        assert tools.body["ended"]["reason"] == "deleted"
        await say(asker, "finished", "/echo older")
        await ended(running)
    texts = await said(HERE, place, kept, "forward again")
    assert texts[-3:] == ["older", "/echo forward again", "forward again"]
    assert "newer" not in texts


@pytest.mark.parametrize("name", ["0.2.0", "0.6.0"])
async def test_a_version_of_the_same_schema_opens_what_this_version_left(
    name: str, tmp_path: pathlib.Path
) -> None:
    """Nothing need be restored, on the way there and on the way back. The versions between are as 0.6.0."""
    old, place = version_of(name, tmp_path), tmp_path / "place"
    kept = await used_by_this_version(name, place)
    texts = await said(old.program, place, kept, "older")
    assert texts[-3:] == ["newer", "/echo older", "older"]
    texts = await said(HERE, place, kept, "forward again")
    assert texts[-3:] == ["older", "/echo forward again", "forward again"]
