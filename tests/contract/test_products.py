"""What every store of product chats does alike; the one in memory is the reference."""

from __future__ import annotations

import asyncio
import pathlib
import sqlite3
from collections.abc import AsyncIterator

import pytest

from gateway.apps.product_chat import facts
from gateway.apps.product_chat.faces import open_products
from gateway.apps.product_chat.store import ProductStore
from gateway.errors import GatewayError
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.stores.contract import SessionRecord, Store, Tombstone
from tests.contract.engines import ENGINES
from tests.patience import within


class Sink:
    """A log's end."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.seq = 0
        self.done = asyncio.Event()

    def committed(self, seq: int) -> None:
        self.seq = seq
        self.done.set()

    def refused(self, error: GatewayError) -> None:
        raise AssertionError(error)

    def spoiled(self, seqs: set[int], error: GatewayError) -> None:
        raise AssertionError(error)


class House:
    """Both stores of one file, and a log that writes to them."""

    def __init__(self, store: Store, products: ProductStore) -> None:
        self.store = store
        self.products = products
        self._seq = 0

    async def begin(self, name: str = "a", *, owner: str = "shop/~v", product: int = 1) -> Sink:
        key = f"key-{owner}-{name}"
        await self.store.sessions.create(
            SessionRecord(
                key=key, owner=owner, session_id=name, agent="built-in", created_at=1, last_active_at=1
            )
        )
        sink = Sink(key)
        await self.write(sink, facts.ChatOpened(product, "Kettle", "Dana O'Neil", "d@example.com"))
        return sink

    async def write(self, sink: Sink, *data: ev.EventData) -> None:
        for item in data:
            self._seq += 1
            self.store.logs.enqueue(sink, Event(self._seq, 1000 + self._seq, item), urgent=item is data[-1])
        async with within(5):
            while sink.seq < self._seq:
                sink.done.clear()
                await sink.done.wait()


def post(
    number: int, text: str = "hi", sender: facts.PosterType = "customer", *, spam: int = 0
) -> facts.ChatPost:
    return facts.ChatPost(number, f"p{number}", sender, "Dana", text, spam_score=spam)


@pytest.fixture(params=[name for name, engine in ENGINES.items() if not engine.settings])
async def house(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[House]:
    store = ENGINES[request.param].made(tmp_path)
    made = House(store, open_products(store.tables))
    await store.open()
    yield made
    await store.close()


async def test_a_chat_is_found_by_its_id_with_its_owner(house: House) -> None:
    await house.begin()
    chat = await house.products.find("a")
    assert chat is not None
    assert (chat.owner, chat.tenant, chat.product_id, chat.customer_name) == (
        "shop/~v",
        "shop",
        1,
        "Dana O'Neil",
    )
    assert (chat.status, chat.priority, chat.assigned_to, chat.last_message_at) == (
        "active",
        "normal",
        None,
        None,
    )
    assert await house.products.find("b") is None


async def test_messages_come_in_pages_by_number(house: House) -> None:
    sink = await house.begin()
    await house.write(sink, *(post(number, f"it's {number}") for number in range(1, 8)))
    chat = await house.products.find("a")
    assert chat is not None
    newest = await house.products.messages(chat.id, limit=3, newest_first=True)
    assert [row.id for row in newest] == [7, 6, 5]
    rest = await house.products.messages(chat.id, limit=3, offset=3, newest_first=False)
    assert [(row.id, row.message_text) for row in rest] == [(4, "it's 4"), (5, "it's 5"), (6, "it's 6")]
    assert await house.products.count(chat.id) == chat.message_count == 7
    assert chat.last_message_at == newest[0].created_at


async def test_read_marks_count_what_the_other_side_said(house: House) -> None:
    sink = await house.begin()
    await house.write(sink, post(1), post(2, sender="assistant"), post(3, sender="admin"))
    chat = await house.products.find("a")
    assert chat is not None
    assert list(await house.products.unread(chat.id, by_customer=True)) == [2, 3]
    assert list(await house.products.unread(chat.id, by_customer=False)) == [1]
    assert chat.unread_count == 1
    await house.write(sink, facts.ChatRead((1, 2), "Ruth", "admin"))
    assert list(await house.products.unread(chat.id, by_customer=True)) == [3]
    assert list(await house.products.unread(chat.id, by_customer=False)) == []


async def test_nobody_marks_the_messages_of_another_chat(house: House) -> None:
    first, second = await house.begin("a"), await house.begin("b")
    await house.write(first, post(1))
    await house.write(second, facts.ChatRead((1,), "x", "admin"))
    chat = await house.products.find("a")
    assert chat is not None
    assert list(await house.products.unread(chat.id, by_customer=False)) == [1]


async def test_a_tenant_sees_its_chats_urgent_ones_first(house: House) -> None:
    first, second, third = [await house.begin(name) for name in "abc"]
    await house.begin("d", owner="other/~v")
    await house.write(first, post(1, spam=80))
    await house.write(second, facts.ChatStatus("in_progress", "Ruth", "urgent"))
    await house.write(third, post(2))
    chats = await house.products.sessions("shop", status=None, limit=10)
    assert [chat.session_id for chat in chats] == ["b", "c", "a"]
    assert [chat.spam_score for chat in chats] == [0, 0, 80]
    assert chats[0].assigned_to == "Ruth"
    found = await house.products.sessions("shop", status="in_progress", limit=10)
    assert [chat.session_id for chat in found] == ["b"]
    assert len(await house.products.sessions("shop", status=None, limit=1, offset=2)) == 1
    assert len(await house.products.sessions("shop", status=None, limit=5, offset=3)) == 0


async def test_a_list_has_last_words_who_waits_and_what_is_searched_for(house: House) -> None:
    asked, answered, _empty = [await house.begin(name) for name in "abc"]
    await house.write(asked, post(1, text="Is it 100% Wool?"), post(2, text="Hello?"))
    await house.write(answered, post(3), post(4, sender="assistant", text="Yes_it is."))
    chats = await house.products.sessions("shop", status=None, limit=10, with_messages=True)
    assert [(chat.session_id, chat.last_sender, chat.last_text) for chat in chats] == [
        ("b", "assistant", "Yes_it is."),
        ("a", "customer", "Hello?"),
    ]
    first = (await house.products.messages(chats[1].id, limit=1, newest_first=False))[0]
    assert [chat.waiting_since for chat in chats] == [None, first.created_at]
    for search, names in (("100% w", "a"), ("yes_", "b"), ("es%i", ""), ("o'neil", "bca"), ("\\", "")):
        found = await house.products.sessions("shop", status=None, limit=10, search=search)
        assert {chat.session_id for chat in found} == set(names), search


async def test_messages_are_kept_as_they_were_said(house: House) -> None:
    odd = "a\0b \ufdd0 \ufffd \U0010ffff 'x' \\ 100%"
    sink = await house.begin()
    await house.write(sink, post(1, odd, "assistant"))
    chat = await house.products.find("a")
    assert chat is not None
    assert chat.last_text == odd
    assert (await house.products.messages(chat.id, limit=1, newest_first=True))[0].message_text == odd


async def test_a_chat_goes_with_its_session_and_its_numbers_are_not_used_again(house: House) -> None:
    sink = await house.begin()
    number = (await house.products.numbers())[4]
    await house.write(sink, post(number))
    tombstone = Tombstone(owner="shop/~v", session_hash="h", last_seq=9, at=1, reason="deleted")
    await house.store.sessions.delete(sink.key, tombstone)
    assert await house.products.find("a") is None
    assert (await house.products.numbers())[0] > number


async def test_numbers_go_on_above_those_that_came_from_elsewhere(house: House) -> None:
    sink = await house.begin()
    await house.write(sink, post(5_000))
    assert (await house.products.numbers())[0] > 5_000


async def test_a_chat_follows_its_session_to_another_owner(house: House) -> None:
    sink = await house.begin()
    assert await house.store.sessions.adopt(sink.key, owner="shop/dana", session_id="a2", keeps_shares=True)
    chat = await house.products.find("a")
    assert chat is not None
    assert (chat.owner, chat.record_id, chat.session_id) == ("shop/dana", "a2", "a")


async def test_the_tables_refuse_what_cannot_be(tmp_path: pathlib.Path) -> None:
    """The database holds its own rules, whoever writes to it."""
    sqlite = ENGINES["sqlite"].made(tmp_path)
    house = House(sqlite, open_products(sqlite.tables))
    await sqlite.open()
    sink = await house.begin()
    await house.write(sink, post(1))
    await sqlite.close()
    database = sqlite3.connect(tmp_path / "gateway.db")
    database.execute("PRAGMA foreign_keys = ON")
    for wrong in (
        "UPDATE product_chat_messages SET session_id = 99",
        "UPDATE product_chat_messages SET sender_type = 'robot'",
        "UPDATE product_chat_sessions SET status = 'gone'",
        "INSERT INTO product_chat_sessions SELECT * FROM product_chat_sessions",
        "INSERT INTO product_chat_messages SELECT * FROM product_chat_messages",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            database.execute(wrong)
    plan = database.execute(
        "EXPLAIN QUERY PLAN SELECT * FROM product_chat_messages WHERE session_id = 1 ORDER BY id DESC LIMIT 9"
    ).fetchall()
    assert "product_chat_messages_in_order" in str(plan)
    database.close()
