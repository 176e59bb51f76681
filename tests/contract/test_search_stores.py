"""What every engine finds: the same before its index knows of it and after, and nothing that is gone."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import sqlite3
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest

from gateway.errors import StoreFailed
from gateway.events import facts as ev
from gateway.events.facts import LARGE_BYTES, Event, EventData
from gateway.stores import searching, stretches
from gateway.stores.contract import Founding, Store
from gateway.stores.labels import LabelChange, Labels
from gateway.stores.postgresql import search as postgresql_search
from gateway.stores.search import Match, Matches, SearchPlace, words_of
from gateway.stores.sessions import Forking
from gateway.stores.sqlite import search
from gateway.stores.sqlite.store import SqliteStore
from tests.contract.engines import ENGINES, Collector, filled, record, tombstone
from tests.patience import within

OWNER = "t/s"


def turn(seq: int, asked: str, *answer: str) -> list[Event]:
    """A message, its turn with an answer in pieces, and its end."""
    name = f"t{seq}"
    data: list[EventData] = [
        ev.MessageAdded(f"u{seq}", "user", asked, name),
        ev.TurnStarted(name, f"u{seq}", f"a{seq}"),
        *(ev.TextDelta(f"a{seq}", name, piece) for piece in answer),
        ev.TurnEnded(name, "end_turn"),
    ]
    return [Event(seq + index, 1000 + seq + index, one) for index, one in enumerate(data)]


async def said(store: Store, name: str, *events: Event, owner: str = OWNER, at: int = 1000) -> Collector:
    one = record(name, owner=owner, at=at)
    if await store.sessions.find(owner, name) is None:
        await store.sessions.create(one)
    sink = Collector(one.key)
    await filled(store, sink, list(events))
    return sink


async def indexed(store: Store) -> None:
    while await store.search.index():
        pass


async def search_all(store: Store, query: str, *, owner: str = OWNER, limit: int = 100) -> list[Match]:
    """Everything that is found, answer by answer."""
    matches: list[Match] = []
    place: SearchPlace | None = None
    while True:
        found: Matches = await store.search.find(
            owner, words_of(query), place=place, limit=limit, seconds=10.0
        )
        matches += found.matches
        place = found.following
        if place is None:
            return matches
        assert SearchPlace.read(place.spelled()) == place


async def names(store: Store, query: str, *, owner: str = OWNER) -> set[tuple[str, str | None]]:
    """(session, message) of what is found, which is the same before everything is indexed and after."""
    before = {(one.session_id, one.message_id) for one in await search_all(store, query, owner=owner)}
    await indexed(store)
    after = {(one.session_id, one.message_id) for one in await search_all(store, query, owner=owner, limit=1)}
    assert before == after
    return after


async def test_parts_of_words_are_found_in_every_script_and_without_capitals(store: Store) -> None:
    await said(store, "a", *turn(1, "Where is my Umbrella?", "It is by the d", "oor, Straße 5."))
    await said(store, "b", *turn(1, "איפה המטרייה שלי", "ליד הדלת"))
    await said(store, "c", *turn(1, "我的雨伞在哪里", "在门边"))
    assert await names(store, "UMBREL") == {("a", "u1")}
    assert await names(store, "door") == {("a", "a1")}
    assert await names(store, "door straße") == {("a", "a1")}
    assert await names(store, "umbrella door") == set(), "the words are in two messages"
    assert await names(store, "מטרי") == {("b", "u1")}
    assert await names(store, "雨伞") == {("c", "u1")}
    assert await names(store, "门") == {("c", "a1")}
    assert await names(store, "is") == {("a", "u1"), ("a", "a1")}


HOSTILE: Final = ('"', "AND", "NEAR(", "*", "a* OR b", "'; DROP TABLE sessions; --", "%", "_", "\\")


async def test_what_is_typed_is_words_and_no_syntax(store: Store) -> None:
    for number, query in enumerate(HOSTILE):
        events = *turn(1, "nothing of it", "here"), *turn(11, f"see {query} there", "ok")
        await said(store, f"s{number}", *events, owner=f"t/{number}")
    for number, query in enumerate(HOSTILE):
        assert await names(store, query, owner=f"t/{number}") == {(f"s{number}", "u11")}


async def test_titles_are_found_as_they_are_now(store: Store) -> None:
    title = Event(9, 1009, ev.SessionInfo("A Holiday in Norway"))
    await said(store, "a", *turn(1, "hello", "hi"), title)
    assert await names(store, "norw") == {("a", None)}
    (match,) = await search_all(store, "norw holi")
    assert [match.excerpt[slice(*mark)] for mark in match.marks] == ["Holi", "Norw"]
    await said(store, "a", Event(10, 1010, ev.SessionInfo("Two weeks in Sweden")), *turn(11, "x", "y"))
    assert await names(store, "norway") == set()
    assert await names(store, "swed") == {("a", None)}


async def test_a_match_says_where_and_when_with_the_words_marked(store: Store) -> None:
    text = "word " * 100 + "a needle in the middle of it " + "word " * 100
    await said(store, "a", *turn(1, "look", *(text[at : at + 7] for at in range(0, len(text), 7))))
    (match,) = await search_all(store, "needle MIDDLE")
    assert (match.sender, match.seq, match.at) == ("agent", 1 + 1 + -(-len(text) // 7), 1003)
    assert [match.excerpt[slice(*mark)] for mark in match.marks] == ["needle", "middle"]
    assert match.excerpt.startswith("word")
    assert len(match.excerpt) <= 240


async def test_the_session_used_last_comes_first_and_no_session_takes_all_the_room(store: Store) -> None:
    await said(store, "old", *turn(1, "needle", "x"), at=1)
    await said(store, "new", *(e for n in range(1, 80, 10) for e in turn(n, "needle", "x")), at=3)
    await said(store, "mid", *turn(1, "needle", "x"), at=2)
    await indexed(store)
    found = [one.session_id for one in await search_all(store, "needle")]
    assert found == ["new"] * 5 + ["mid", "old"]
    assert found == [one.session_id for one in await search_all(store, "needle", limit=2)]


async def test_nobody_finds_what_is_anothers_and_it_goes_along_with_its_session(store: Store) -> None:
    sink = await said(store, "a", *turn(1, "needle", "x"))
    await store.labels.change(OWNER, "a", LabelChange(tags=("home",)))
    assert await names(store, "needle", owner="t/other") == set()
    assert await store.sessions.adopt(sink.key, owner="t/other", session_id="b", keeps_shares=False)
    assert await names(store, "needle") == set()
    assert await names(store, "needle", owner="t/other") == {("b", "u1")}
    assert await store.labels.of_owner(OWNER) == {}
    assert (await store.labels.of_owner("t/other"))["b"].tags == ("home",)
    assert await store.labels.find(OWNER, "a") is None
    assert await store.labels.find("t/other", "b") == Labels(tags=("home",), said_seq=4)


@pytest.mark.parametrize("is_indexed", [True, False])
async def test_what_is_deleted_is_not_found_nor_under_the_same_id_again(
    store: Store, is_indexed: bool
) -> None:
    sink = await said(store, "a", *turn(1, "needle", "x"))
    await store.labels.change(OWNER, "a", LabelChange(is_pinned=True))
    if is_indexed:
        await indexed(store)
    await store.sessions.delete(sink.key, tombstone())
    assert await names(store, "needle") == set()
    assert await store.labels.of_owner(OWNER) == {}
    await said(store, "a", *turn(11, "thread", "y"))
    assert await names(store, "needle") == set()
    assert await names(store, "thread") == {("a", "u11")}


async def test_a_message_that_was_withdrawn_is_not_found(store: Store) -> None:
    await said(store, "a", *turn(1, "needle", "x"), *turn(11, "needle", "y"))
    await indexed(store)
    await said(store, "a", Event(20, 1020, ev.MessageWithdrawn("u1", "link_revoked")))
    assert await names(store, "needle") == {("a", "u11")}


async def test_of_a_waiting_message_that_was_changed_only_the_new_text_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "STRETCH_CHARACTERS", 20)

    def waits(seq: int, text: str) -> list[Event]:
        message = ev.MessageAdded("u9", "user", text, "t9")
        queue = ev.QueueChanged((ev.WaitingMessage("u9", "t9", text),), is_held=seq > 10)
        return [Event(seq, 1000 + seq, message), Event(seq + 1, 1001 + seq, queue)]

    *begun, end = turn(1, "look", "a long answer " * 10)
    await said(store, "a", *begun, *waits(4, "needle"), msgspec.structs.replace(end, seq=6))
    assert await names(store, "needle") == {("a", "u9")}
    await said(store, "a", *waits(11, "thread"))
    assert await names(store, "needle") == set()
    assert await names(store, "thread") == {("a", "u9")}
    await said(store, "a", *turn(21, "next", "x"), Event(30, 1030, ev.QueueChanged(())), *turn(31, "y", "z"))
    assert await names(store, "needle") == set()
    assert await names(store, "thread") == {("a", "u9")}


async def test_compaction_changes_nothing_that_is_found(store: Store) -> None:
    sink = await said(store, "a", *turn(1, "look", "a nee", "dle he", "re"))
    assert await names(store, "needle") == {("a", "a1")}
    await store.logs.compact(sink.key, through=6)
    assert await names(store, "needle") == {("a", "a1")}


async def test_what_is_large_and_says_nothing_is_not_read_to_find_words(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = turn(1, "the first apple"), turn(10, "the last pear " + "x" * LARGE_BYTES)
    picture = ev.ContentBlock("b1", "t1", msgspec.Raw(b'{"type":"image","data":"%b"}' % (b"A" * LARGE_BYTES)))
    read: list[int] = []
    for reader in (stretches.Gathering, searching.Reading):
        add = reader.add

        def noted(one: Any, events: list[Event], add: Any = add) -> None:
            read.extend(event.size_bytes for event in events if not isinstance(event.data, ev.MessageAdded))
            add(one, events)

        monkeypatch.setattr(reader, "add", noted)
    await said(store, "s1", *first[:2], Event(3, 1003, picture), Event(4, 1004, first[-1].data), *last)
    for _ in range(2):  # without the index, and with it
        for word in ("apple", "pear"):
            assert [match.session_id for match in await search_all(store, word)] == ["s1"]
        await indexed(store)
    assert max(read, default=0) < 1_000


async def test_a_turn_that_runs_is_found_and_so_is_what_it_says_next(store: Store) -> None:
    events = turn(1, "look", "a needle", " and a thread", " for it")
    await said(store, "a", *events[:3])
    assert await names(store, "needle") == {("a", "a1")}
    await said(store, "a", *events[3:5])
    assert await names(store, "needle thread") == {("a", "a1")}
    await said(store, "a", *events[5:], *turn(21, "yarn", "z"))
    assert await names(store, "thread it") == {("a", "a1")}
    assert await names(store, "yarn") == {("a", "u21")}


async def test_what_an_agent_says_outside_a_turn_is_found_at_once(store: Store) -> None:
    await said(store, "a", *turn(1, "look", "x"))
    await indexed(store)
    for seq, text in ((11, "needle"), (12, " thread")):
        await said(store, "a", Event(seq, 1000 + seq, ev.TextDelta("a11", "", text)))
        assert await names(store, text) == {("a", "a11")}


async def test_a_fork_and_a_session_that_begins_with_a_message_are_found(store: Store) -> None:
    one = record("a")
    await store.sessions.create(one, Founding(reserved_seq=9, events=turn(1, "needle", "x")))
    fork = record("b", at=2000)
    await store.sessions.fork(
        fork, Forking(source=one.key, through=4, copied=lambda event: event, added=turn(11, "thread", "y"))
    )
    assert await names(store, "needle") == {("a", "u1"), ("b", "u1")}
    assert await names(store, "thread") == {("b", "u11")}


async def test_an_answer_that_is_out_of_time_says_where_to_go_on(store: Store) -> None:
    for number in range(4):
        await said(store, f"s{number}", *turn(1, f"needle {number}", "x"), at=number)
    place, found, answers = None, [], 0
    while True:
        some = await store.search.find(OWNER, ("needle",), place=place, limit=1, seconds=0.0)
        found += [one.session_id for one in some.matches]
        answers += 1
        if (place := some.following) is None:
            break
    assert found == ["s3", "s2", "s1", "s0"]
    assert answers >= 4


@pytest.mark.parametrize("text", ["", "x", "!!", "a" * 300, "MS4y", "é"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        SearchPlace.read(text)


# -- labels -------------------------------------------------------------------------------------------------


async def test_labels_change_one_by_one_and_what_was_seen_never_goes_back(store: Store) -> None:
    await said(store, "a", *turn(1, "x", "y"))
    assert (await store.labels.of_owner(OWNER))["a"] == Labels(said_seq=4)
    await store.labels.change(OWNER, "a", LabelChange(is_pinned=True))
    await store.labels.change(OWNER, "a", LabelChange(tags=("w", "ö"), seen_seq=4))
    after = await store.labels.change(OWNER, "a", LabelChange(is_archived=True, seen_seq=2))
    assert after == Labels(is_pinned=True, is_archived=True, tags=("w", "ö"), seen_seq=4, said_seq=4)
    assert not after.is_unread
    await said(store, "a", *turn(11, "x", "y"))
    now = (await store.labels.of_owner(OWNER))["a"]
    assert await store.labels.find(OWNER, "a") == now
    assert (now.said_seq, now.is_unread, now.is_pinned) == (14, True, True)
    assert await store.labels.change("t/other", "a", LabelChange(is_pinned=True)) is None
    assert await store.labels.change(OWNER, "b", LabelChange(is_pinned=True)) is None


# -- the index ----------------------------------------------------------------------------------------------

WITH_INDEX: Final = pytest.mark.parametrize("engine", ["sqlite", "postgresql"])


@contextlib.asynccontextmanager
async def opened(path: pathlib.Path, engine: str = "sqlite") -> AsyncIterator[Any]:
    store: Any = ENGINES[engine].made(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def rows_in(store: Any, query: str) -> list[tuple[Any, ...]]:
    if hasattr(store, "read"):
        found: list[tuple[Any, ...]] = await store.read(lambda c: c.execute(query).fetchall())
        return found
    return [tuple(row) for row in await store.query(lambda c: c.fetch(query))]


async def test_what_an_earlier_program_did_meanwhile_is_caught_up_with(tmp_path: pathlib.Path) -> None:
    """It knows nothing of the index: it writes, renames and deletes without it."""
    async with opened(tmp_path) as store:
        await said(store, "kept", *turn(1, "needle", "x"))
        gone = await said(store, "gone", *turn(1, "needle", "y"))
        await indexed(store)
    async with opened(tmp_path) as store:
        store._projections.clear()
        await said(store, "kept", *turn(11, "thread", "z"))
        await said(store, "new", *turn(1, "thread", "z"))
        await store.sessions.delete(gone.key, tombstone())
    async with opened(tmp_path) as store:
        assert (await store.search.find(OWNER, ("x",), place=None, limit=9, seconds=1)).is_indexing
        assert await names(store, "needle") == {("kept", "u1")}
        assert await names(store, "thread") == {("kept", "u11"), ("new", "u1")}
        assert not (await store.search.find(OWNER, ("x",), place=None, limit=9, seconds=1)).is_indexing


@WITH_INDEX
async def test_the_index_goes_on_after_a_restart_where_it_was(
    engine: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "INDEX_SESSIONS", 2)
    monkeypatch.setattr(postgresql_search, "INDEX_PAGES", 4)
    async with opened(tmp_path, engine) as store:
        for number in range(7):
            await said(store, f"s{number}", *turn(1, f"needle{number}", "x"))
        assert await store.search.index()
    async with opened(tmp_path, engine) as store:
        assert await rows_in(store, "SELECT count(*) FROM search_marks") == [(2,)]
        assert len(await names(store, "needle")) == 7
        assert await rows_in(store, "SELECT count(*) FROM search_marks") == [(7,)]
        counted = "(SELECT count(*) AS n FROM search_stretches GROUP BY session) AS counted"
        assert await rows_in(store, f"SELECT max(n), count(*) FROM {counted}") == [(1, 7)]  # noqa: S608


@WITH_INDEX
async def test_long_logs_are_cut_between_turns_and_short_ends_are_made_anew(
    engine: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "STRETCH_CHARACTERS", 200)
    monkeypatch.setattr(stretches, "PAGE_EVENTS", 7)
    monkeypatch.setattr(stretches, "PAGES_MOST", 2)
    async with opened(tmp_path, engine) as store:
        for number in range(24):
            seq = 1 + 10 * number
            await said(store, "a", *turn(seq, f"question{number:02} " + "q" * 40, f"answer{number:02}"))
            if number % 5 == 0:
                await indexed(store)
        for number in range(24):
            assert await names(store, f"question{number:02}") == {("a", f"u{1 + 10 * number}")}
        rows = await rows_in(store, "SELECT after, through FROM search_stretches ORDER BY through")
        assert 3 < len(rows) < 15
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(rows))
        await indexed(store)
        assert not await store.search.index()
        assert not getattr(store.search, "_said", ())


async def test_what_a_deleted_session_said_is_no_work_for_the_next_one_with_its_row(
    tmp_path: pathlib.Path,
) -> None:
    async with opened(tmp_path) as store:
        sink = await said(store, "a", *turn(1, "needle", "x"))
        await store.sessions.delete(sink.key, tombstone())
        await store.sessions.create(record("b"))
        async with within(10):
            await indexed(store)
        assert not store.search._said


@WITH_INDEX
async def test_a_commit_of_the_index_that_fails_is_done_again(
    engine: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, engine) as store:
        await said(store, "a", *turn(1, "needle", "x"))

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("no")

        with monkeypatch.context() as patch:
            patch.setattr(search, "keep", full)
            patch.setattr(postgresql_search, "keep", _refused)
            with pytest.raises(StoreFailed):
                await store.search.index()
        assert await names(store, "needle") == {("a", "u1")}
        assert await rows_in(store, "SELECT count(*) FROM search_stretches") == [(1,)]
        assert not getattr(store.search, "_said", ())


async def _refused(connection: Any, _done: object) -> None:
    await connection.execute("SELECT 1 / 0")


@WITH_INDEX
async def test_nothing_of_a_text_is_in_the_index(engine: str, tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path, engine) as store:
        await said(store, "a", *turn(1, "xylophone quartz", "x"))
        await indexed(store)
        rows = await rows_in(store, "SELECT * FROM search_stretches")
        assert len(rows) == 1
        assert not any(gram in bytes(rows[0][-1]) for gram in (b"xyl", b"qua", b"hone"))


async def test_on_postgresql_what_another_program_wrote_is_found_at_once(tmp_path: pathlib.Path) -> None:
    """What is not indexed yet is told by the log, not by what this process remembers."""
    async with opened(tmp_path, "postgresql") as store:
        await said(store, "a", *turn(1, "needle", "x"))
        await indexed(store)
        (event,) = turn(11, "thread")[:1]
        values = (event.seq, event.at, event.body)
        insert = "INSERT INTO events (session, seq, at, body) SELECT id, $1, $2, $3 FROM sessions"
        await store.transact(lambda c: c.execute(insert, *values))
        assert {one.message_id for one in await search_all(store, "thread")} == {"u11"}


async def test_on_postgresql_a_text_behind_which_nothing_was_said_is_no_work_for_searches(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that are no texts follow the end of a turn; they do not make a search read each log."""
    async with opened(tmp_path, "postgresql") as store:
        await said(store, "a", *turn(1, "needle", "x"))
        await indexed(store)
        await said(store, "a", Event(20, 1020, ev.QueueChanged(())))

        async def read(_reading: object) -> None:
            raise AssertionError("the log is read")

        monkeypatch.setattr(store.search, "read", read)
        assert await search_all(store, "thread") == []


async def test_what_sqlite_keeps_of_long_logs_is_given_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PAGES_KEPT", 2)
    store = ENGINES["sqlite"].made(tmp_path)
    await store.open()
    try:
        assert isinstance(store, SqliteStore)
        assert store._reader is not None
        asked: list[str] = []
        store._reader.set_trace_callback(asked.append)
        await said(store, "short", *turn(1, "hello"))
        await indexed(store)
        assert not [query for query in asked if "shrink_memory" in query]
        await said(store, "long", *turn(1, "hello", *["word " * 20_000] * 4))
        await indexed(store)
        assert len([query for query in asked if "shrink_memory" in query]) == 1
    finally:
        await store.close()
