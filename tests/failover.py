"""A gateway on two PostgreSQL servers, of which one dies: `python -m tests.failover --rounds 10`.

The second one follows the first synchronously; with `--asynchronous` it does not, and hears nothing of the
last messages. While people talk the first is killed and the second promoted; the gateway, whose URL names
both, goes on by itself. Then everything that was acknowledged must be there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from msgspec import Struct

from tests.aims import Aim, none_of, row, watched_loop
from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.postgres import ROLE, Server, postgres, standby
from tests.scrapes import scrape
from tests.shared import ask

SESSIONS: Final = 3
ROUND_SECONDS: Final = 20
PAUSE_SECONDS: Final = 0.05


class Outcome(Struct, frozen=True, kw_only=True):
    """Of one failover."""

    acknowledged: int
    lost: list[str]
    """What was acknowledged and is not there."""
    doubled: list[str]
    """What is there more than once."""
    pause_seconds: float
    """From the kill until the first message was acknowledged after it."""
    back_seconds: float
    """The same from the moment in which the second server took writes."""
    held_up_seconds: float
    """The longest time for which the loop of the gateway, and of those who talk, stood still."""
    healed: int
    """Commits that the second server lacked and was given again."""


def missing(acknowledged: Iterable[str], there: Iterable[str]) -> list[str]:
    """What was acknowledged and is not there."""
    return sorted(set(acknowledged) - set(there))


class People:
    """Who use a gateway: they say one word after the other, each until it is acknowledged."""

    def __init__(self, gateway: GatewayInside) -> None:
        self._gateway = gateway
        self.acknowledged: dict[str, float] = {}
        """Word → when."""
        self.is_over = False

    async def talk(self, session: str) -> None:
        number = 0
        while not self.is_over:
            word = f"{session}-{number}"
            body = {"session_id": session, "message": f"/echo {word}"}
            key = {"Idempotency-Key": word}
            answer = await ask(self._gateway.http, "POST", "/api/chat?wait=5", body, headers=key)
            if answer.status == 200:
                self.acknowledged[word] = time.monotonic()
                number += 1
            else:
                assert answer.status == 503, answer
                await asyncio.sleep(PAUSE_SECONDS)

    async def until_each_says(self, count: int) -> None:
        """So many more words of each session."""
        wanted = {session: self._said(session) + count for session in names()}
        while any(self._said(session) < wanted[session] for session in names()):
            await asyncio.sleep(PAUSE_SECONDS)

    def _said(self, session: str) -> int:
        return sum(word.startswith(f"{session}-") for word in self.acknowledged)


@contextlib.asynccontextmanager
async def talking(gateway: GatewayInside) -> AsyncIterator[People]:
    """They talk while the block runs, and each until the last word is answered."""
    people = People(gateway)
    tasks = [asyncio.create_task(people.talk(session)) for session in names()]
    try:
        yield people
        people.is_over = True
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    finally:
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        task.result()


def names() -> list[str]:
    """The sessions."""
    return [f"s{number}" for number in range(SESSIONS)]


def both(one: Server, other: Server, database: str) -> str:
    """The URL that names both, of which that is used that can be written."""
    hosts = f"127.0.0.1:{one.port},127.0.0.1:{other.port}"
    return f"postgresql://{ROLE}@{hosts}/{database}?target_session_attrs=read-write"


async def fail_over(directory: pathlib.Path, *, is_synchronous: bool = True) -> Outcome:
    """One round. Raises TimeoutError if the gateway does not go on."""
    servers = postgres(is_durable=True)
    async with servers as primary, standby(primary, is_synchronous=is_synchronous) as second:
        database = (await primary.database()).rpartition("/")[2]
        config = f'store = "{both(primary, second, database)}"\n'
        running = gateway_inside(directory, config=config)
        async with running as gateway, watched_loop() as watch, within(ROUND_SECONDS):
            async with talking(gateway) as people:
                await people.until_each_says(2)
                if not is_synchronous:
                    await second.detach()
                    await people.until_each_says(2)
                killed = time.monotonic()
                await primary.kill()
                watch.longest_seconds = 0.0
                await second.promote()
                promoted = time.monotonic()
                await people.until_each_says(2)
            held_up = watch.longest_seconds
            first = min(at for at in people.acknowledged.values() if at > killed)
            said = await words_of(gateway)
            return Outcome(
                acknowledged=len(people.acknowledged),
                lost=missing(people.acknowledged, said),
                doubled=sorted(word for word, count in Counter(said).items() if count > 1),
                pause_seconds=first - killed,
                back_seconds=max(0.0, first - promoted),
                held_up_seconds=held_up,
                healed=int((await scrape(gateway)).value("store_healed_total")),
            )


async def words_of(gateway: GatewayInside) -> list[str]:
    """What is in the log that a new reader reads, and in the store."""
    found = []
    for session in names():
        async with gateway.http.get(f"/api/sessions/{session}/export?format=jsonl") as response:
            text = await response.text()
        state: Any = await gateway.state(session)
        said = [one["content"].removeprefix("/echo ") for one in state["messages"] if one["sender"] == "user"]
        found += [word for word in said if f'/echo {word}"' in text]
    return found


def main() -> int:
    """Rounds, a line each, and row 3 of the acceptance; 1 if anything was lost, or came twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--asynchronous", action="store_true")
    parser.add_argument("--seconds", type=float, default=1200, help="no round begins after so many (1200)")
    asked = parser.parse_args()
    outcomes: list[Outcome] = []
    began = time.monotonic()
    for number in range(1, asked.rounds + 1):
        if time.monotonic() - began > asked.seconds:
            break
        with tempfile.TemporaryDirectory(prefix="failover-") as made:
            outcome = asyncio.run(fail_over(pathlib.Path(made), is_synchronous=not asked.asynchronous))
        outcomes.append(outcome)
        print(  # noqa: T201
            f"round {number}: {outcome.acknowledged} acknowledged, {len(outcome.lost)} lost,"
            f" {outcome.healed} commits done again, a pause of {outcome.pause_seconds:.2f} s"
        )
    longest = max(outcome.pause_seconds for outcome in outcomes)
    load = os.getloadavg()[0]
    print(f"{len(outcomes)} failovers, the longest pause {longest:.2f} s, load {load:.1f}")  # noqa: T201
    print(row(3, _aims(outcomes, asked.rounds, is_synchronous=not asked.asynchronous)))  # noqa: T201
    return 1 if any(outcome.lost or outcome.doubled for outcome in outcomes) else 0


def _aims(outcomes: list[Outcome], rounds: int, *, is_synchronous: bool) -> list[Aim]:
    held_up_ms = 1000 * max(outcome.held_up_seconds for outcome in outcomes)
    found = [
        Aim(what="failovers", seen=len(outcomes), least=rounds),
        none_of("acknowledged and lost", sum(len(outcome.lost) for outcome in outcomes)),
        none_of("there twice", sum(len(outcome.doubled) for outcome in outcomes)),
        Aim(what="a message after the server is back, s", seen=max(o.back_seconds for o in outcomes), most=2),
        Aim(what="the loop held up, ms", seen=held_up_ms, most=100),
    ]
    if not is_synchronous:
        found.append(Aim(what="commits done again", seen=sum(o.healed for o in outcomes), least=1))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
