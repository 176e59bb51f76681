"""What every store of the shop does alike; the one in memory is the reference."""

from __future__ import annotations

import asyncio
import hashlib
import pathlib
import random
import sqlite3
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.apps.shop.errors import CartFull, CartLimit, PreferencesTooLarge
from gateway.apps.shop.opening import open_carts
from gateway.apps.shop.store import Bounds, Cart, CartLine, Moment, ShopKey, ShopStore
from gateway.apps.shop.store_memory import MemoryShopStore
from gateway.apps.shop.store_postgresql import PostgresqlShopStore
from gateway.apps.shop.store_sqlite import SqliteShopStore
from gateway.errors import SessionLimit, StoreFull
from gateway.stores.sqlite.store import SqliteStore
from tests.contract.engines import ENGINES, MIGRATIONS

BOUNDS = Bounds(lines=5, conversations=1_050, preference_keys=3, preference_bytes=100, purchases=2)
BOUNDS_THERE = msgspec.structs.replace(BOUNDS, conversations=30)
"""On a server, where each call costs some messages."""
FREQUENT = (
    "SELECT id FROM shop_sessions WHERE owner = 'o' AND conversation = 'c' AND expires_at > 1",
    "SELECT count(*) FROM shop_sessions WHERE tenant = 't' AND expires_at > 1",
    "SELECT id FROM shop_sessions WHERE expires_at <= 1 LIMIT 5",
    "SELECT * FROM shop_items WHERE session = 1",
    "SELECT * FROM shop_purchases WHERE owner = 'o' AND conversation = 'c' ORDER BY id DESC",
    "DELETE FROM shop_purchases WHERE expires_at <= 1",
)
"""What a shop often asks, on every engine."""
ALICE = ShopKey("t", "t/alice", "c")
NOW = Moment(1_000, 2_000)


@pytest.fixture(params=[name for name, engine in ENGINES.items() if not engine.settings])
async def store(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[ShopStore]:
    made = ENGINES[request.param].made(tmp_path)
    await made.open()
    yield open_carts(made.tables, bounds=BOUNDS_THERE if request.param == "postgresql" else BOUNDS)
    await made.close()


def in_a_file(path: pathlib.Path) -> SqliteStore:
    return SqliteStore(path / "gateway.db", migrations=MIGRATIONS)


def line(name: str = "a", *, price: int = 990, quantity: int = 1) -> CartLine:
    return CartLine(
        line=name, name=f"product {name}", price=price, quantity=quantity, image="i", extra={"x": [1]}
    )


async def add(store: ShopStore, key: ShopKey = ALICE, *, at: Moment = NOW, quantity: int = 1) -> Cart:
    return await store.add(key, line(quantity=quantity), at, bounds=BOUNDS)


async def test_a_product_added_twice_is_one_line(store: ShopStore) -> None:
    await add(store, quantity=2)
    cart = await store.add(ALICE, line(price=1_000, quantity=3), NOW, bounds=BOUNDS)
    assert [(kept.quantity, kept.price, kept.added_at) for kept in cart.lines] == [(5, 1_000, 1_000)]
    assert (cart.total, cart.quantity) == (5_000, 5)
    assert cart.lines[0].extra == {"x": [1]}
    assert await store.cart(ALICE, at=1_001) == cart


async def test_lines_keep_the_order_in_which_they_were_added(store: ShopStore) -> None:
    for name in ("c", "a", "b", "a"):
        await store.add(ALICE, line(name), NOW, bounds=BOUNDS)
    assert [kept.line for kept in (await store.cart(ALICE, at=1)).lines] == ["c", "a", "b"]


async def test_owners_and_conversations_share_nothing(store: ShopStore) -> None:
    await add(store)
    for other in (ShopKey("t", "t/bob", "c"), ShopKey("t", "t/alice", "C"), ShopKey("u", "u/alice", "c")):
        assert await store.cart(other, at=1) == Cart()
        assert await store.session(other, at=1) is None
        assert await store.remove(other, "a", NOW) == (None, Cart())
        assert await store.clear(other, NOW) == Cart()
        assert await store.checkout(other, NOW, kept_until=9_000, bounds=BOUNDS) is None
    assert (await store.cart(ALICE, at=1)).quantity == 1


async def test_ids_that_look_alike_are_different(store: ShopStore) -> None:
    alike = ["é", "e\u0301", "a ", "a", "A", "א", "a:b", "a%3Ab", "x" * 255, "x" * 256]
    for number, conversation in enumerate(alike, start=1):
        await add(store, ShopKey("t", "t/s", conversation), quantity=number)
    for number, conversation in enumerate(alike, start=1):
        assert (await store.cart(ShopKey("t", "t/s", conversation), at=1)).quantity == number


async def test_a_line_is_removed_whole(store: ShopStore) -> None:
    await add(store, quantity=3)
    taken, left = await store.remove(ALICE, "a", NOW)
    assert taken is not None
    assert (taken.quantity, left) == (3, Cart())
    assert await store.remove(ALICE, "a", NOW) == (None, Cart())


async def test_a_cart_is_bounded_and_a_refusal_changes_nothing(store: ShopStore) -> None:
    await add(store, quantity=998)
    with pytest.raises(CartLimit):
        await add(store, quantity=2)
    for name in "bcde":
        await store.add(ALICE, line(name), NOW, bounds=BOUNDS)
    before = await store.cart(ALICE, at=1)
    with pytest.raises(CartFull):
        await store.add(ALICE, line("f"), NOW, bounds=BOUNDS)
    assert await store.cart(ALICE, at=1) == before
    session = await store.session(ALICE, at=1)
    assert session is not None
    assert session.counts["adds"] == 5


async def test_a_refused_first_addition_makes_no_conversation(store: ShopStore) -> None:
    with pytest.raises(CartLimit):
        await add(store, quantity=1_000)
    assert await store.session(ALICE, at=1) is None


async def test_checkout_moves_the_cart_into_the_purchases_once(store: ShopStore) -> None:
    await add(store, quantity=2)
    outcomes = await asyncio.gather(
        *(store.checkout(ALICE, NOW, kept_until=9_000, bounds=BOUNDS) for _ in range(5))
    )
    bought = [outcome for outcome in outcomes if outcome is not None]
    assert [(purchase.total, purchase.lines[0].quantity) for purchase in bought] == [(1_980, 2)]
    assert await store.cart(ALICE, at=1) == Cart()
    assert await store.purchases(ALICE, at=8_999) == bought
    assert await store.purchases(ALICE, at=9_000) == []


async def test_only_the_newest_purchases_are_kept(store: ShopStore) -> None:
    for price in (1, 2, 3):
        await store.add(ALICE, line(price=price), NOW, bounds=BOUNDS)
        await store.checkout(ALICE, NOW, kept_until=9_000, bounds=BOUNDS)
    assert [purchase.total for purchase in await store.purchases(ALICE, at=1)] == [3, 2]


async def test_a_preference_may_have_a_long_name(store: ShopStore) -> None:
    name = "".join(hashlib.sha256(b"%d" % number).hexdigest() for number in range(100))
    for value in (1, 2):
        assert await store.prefer(ALICE, {name: value}, NOW, bounds=Bounds()) == {name: value}
    assert await store.preferences(ALICE, at=1) == {name: 2}


async def test_preferences_are_merged_by_key_and_bounded(store: ShopStore) -> None:
    assert await store.prefer(ALICE, {"diet": "vegan", "budget": 50}, NOW, bounds=BOUNDS)
    merged = await store.prefer(ALICE, {"diet": ["vegan", "raw"]}, NOW, bounds=BOUNDS)
    assert merged == {"budget": 50, "diet": ["vegan", "raw"]}
    for changes in ({"a": 1, "b": 2}, {"diet": "x" * 100}, {"diet": "x" * 1_000_000}):
        with pytest.raises(PreferencesTooLarge):
            await store.prefer(ALICE, changes, NOW, bounds=BOUNDS)
    assert await store.preferences(ALICE, at=1) == merged


async def test_a_conversation_ends_after_its_last_use(store: ShopStore) -> None:
    await add(store)
    await store.prefer(ALICE, {"a": 1}, NOW, bounds=BOUNDS)
    await store.use(ALICE, Moment(1_900, 2_900), use="views")
    assert (await store.cart(ALICE, at=2_899)).quantity == 1
    assert await store.cart(ALICE, at=2_900) == Cart()
    assert await store.preferences(ALICE, at=2_900) == {}
    cart = await add(store, at=Moment(3_000, 4_000), quantity=7)
    assert cart.quantity == 7
    session = await store.session(ALICE, at=3_000)
    assert session is not None
    assert (session.created_at, session.counts["adds"]) == (3_000, 1)


async def test_a_clock_that_was_set_back_shortens_no_life(store: ShopStore) -> None:
    await add(store)
    await add(store, at=Moment(500, 1_500))
    assert (await store.cart(ALICE, at=1_999)).quantity == 2


async def test_purging_forgets_what_is_over_and_nothing_else(store: ShopStore) -> None:
    await add(store)
    await store.checkout(ALICE, NOW, kept_until=5_000, bounds=BOUNDS)
    bob = ShopKey("t", "t/bob", "c")
    await add(store, bob, at=Moment(1_000, 9_000))
    assert await store.purge(2_000) == 1
    assert await store.purge(2_000) == 0
    assert len(await store.purchases(ALICE, at=2_000)) == 1
    assert (await store.cart(bob, at=2_000)).quantity == 1
    await store.purge(5_000)
    assert await store.purchases(ALICE, at=1) == []


async def test_erasing_forgets_everything_of_one_conversation(store: ShopStore) -> None:
    bob = ShopKey("t", "t/bob", "c")
    for key in (ALICE, bob):
        await add(store, key)
        await store.checkout(key, NOW, kept_until=9_000, bounds=BOUNDS)
        await store.prefer(key, {"a": 1}, NOW, bounds=BOUNDS)
    await store.erase(ALICE)
    assert await store.session(ALICE, at=1) is None
    assert await store.purchases(ALICE, at=1) == []
    assert len(await store.purchases(bob, at=1)) == 1
    assert await store.preferences(bob, at=1) == {"a": 1}


async def test_a_conversation_goes_to_another_owner_with_everything(store: ShopStore) -> None:
    bob, new = ShopKey("u", "u/bob", "c"), ShopKey("u", "u/bob", "renamed")
    await add(store)
    await store.checkout(ALICE, NOW, kept_until=9_000, bounds=BOUNDS)
    await add(store, quantity=2)
    await add(store, bob, quantity=7)
    await store.adopt("t/alice", "u/bob", tenant="u")
    assert (await store.cart(bob, at=1)).quantity == 7
    assert (await store.cart(ALICE, at=1)).quantity == 2
    await store.move(ALICE, new)
    assert (await store.cart(new, at=1)).quantity == 2
    assert await store.session(ALICE, at=1) is None
    assert len(await store.purchases(bob, at=1)) == 1
    assert (await store.count("t", at=1), await store.count("u", at=1)) == (0, 2)
    await store.adopt("u/bob", "t/carol", tenant="t")
    assert (await store.count("t", at=1), await store.count("u", at=1)) == (2, 0)


async def test_looking_notes_nothing_and_using_counts(store: ShopStore) -> None:
    await store.use(ALICE, NOW, use="searches", words=["tahini", "tahini", "rice"])
    await store.use(ALICE, Moment(1_500, 2_500), use="views")
    session = await store.session(ALICE, at=1_600)
    assert session is not None
    assert (session.created_at, session.last_used_at, session.expires_at) == (1_000, 1_500, 2_500)
    assert (session.counts["searches"], session.counts["views"]) == (1, 1)
    assert session.words == {"tahini": 2, "rice": 1}
    await store.cart(ALICE, at=1_700)
    assert await store.session(ALICE, at=1_700) == session
    bob = ShopKey("t", "t/bob", "c")
    assert await store.use(bob, NOW, use="views", may_create=False) == Cart()
    assert await store.session(bob, at=1) is None


async def test_words_are_bounded(store: ShopStore) -> None:
    await store.use(ALICE, NOW, words=[f"word{number}" for number in range(150)])
    await store.use(ALICE, NOW, words=["word0", "another"])
    session = await store.session(ALICE, at=1)
    assert session is not None
    assert len(session.words) == Bounds().words
    assert session.words["word0"] == 2


async def test_conversations_are_counted_by_tenant(store: ShopStore) -> None:
    for owner in ("t/a", "t/b", "u/a"):
        await add(store, ShopKey(owner[0], owner, "c"))
    assert await store.count("t", at=1) == 2
    assert await store.count("t", at=2_000) == 0


async def test_tallies_are_of_those_that_agreed(store: ShopStore) -> None:
    await add(store, quantity=2)
    await add(store, ShopKey("t", "t/bob", "c"))
    assert await store.tallies("t", at=1) == []
    await store.let_count(ALICE, True)
    found = await store.tallies("t", at=1)
    assert [(tally.quantity, tally.total, tally.counts["adds"]) for tally in found] == [(2, 1_980, 1)]
    assert await store.tallies("u", at=1) == []
    await store.let_count(ALICE, False)
    assert await store.tallies("t", at=1) == []


async def test_there_is_room_for_so_many_conversations(store: ShopStore) -> None:
    room = (BOUNDS_THERE if isinstance(store, PostgresqlShopStore) else BOUNDS).conversations
    await asyncio.gather(*(store.use(ShopKey("t", "t/s", str(number)), NOW) for number in range(room)))
    with pytest.raises(SessionLimit):
        await add(store)
    await store.use(ShopKey("t", "t/s", "0"), NOW)
    await store.purge(2_000)
    await add(store)


@pytest.mark.parametrize("parallel", [20, 200])
async def test_parallel_additions_lose_nothing(store: ShopStore, parallel: int) -> None:
    await asyncio.gather(*(add(store, quantity=1) for _ in range(parallel)))
    cart = await store.cart(ALICE, at=1)
    assert (cart.quantity, cart.total) == (parallel, parallel * 990)


async def test_texts_are_kept_as_they_were_given(store: ShopStore) -> None:
    odd = "a\0b \ufdd0 \ufdd1 \ufffd \U0010ffff 'x' \\ %"
    await store.add(ALICE, msgspec.structs.replace(line(), name=odd, extra={odd: odd}), NOW, bounds=BOUNDS)
    await store.prefer(ALICE, {odd: odd}, NOW, bounds=BOUNDS)
    [kept] = (await store.cart(ALICE, at=1)).lines
    assert (kept.name, kept.extra) == (odd, {odd: odd})
    assert await store.preferences(ALICE, at=1) == {odd: odd}
    assert await store.remove(ALICE, "\0", NOW) == (None, Cart((kept,)))
    await store.checkout(ALICE, NOW, kept_until=9_000, bounds=BOUNDS)
    assert (await store.purchases(ALICE, at=1))[0].lines == (kept,)


async def test_random_operations_match_the_reference(store: ShopStore) -> None:
    """Hundreds of conversations, thirty operations each, all at once; fewer on a server."""
    reference = MemoryShopStore(bounds=BOUNDS)
    conversations, operations = (25, 20) if isinstance(store, PostgresqlShopStore) else (300, 30)

    async def converse(number: int) -> None:
        dice, key = random.Random(number), ShopKey("t", f"t/{number % 7}", str(number))
        for _ in range(operations):
            what, name = dice.random(), dice.choice("abcdefg")
            given = line(name, price=dice.randrange(10_000), quantity=dice.randrange(1, 400))
            outcomes = [await _act(house, key, what, given) for house in (store, reference)]
            assert outcomes[0] == outcomes[1], (key, what)

    await asyncio.gather(*(converse(number) for number in range(conversations)))


async def _act(store: ShopStore, key: ShopKey, what: float, given: CartLine) -> object:
    try:
        if what < 0.6:
            return await store.add(key, given, NOW, bounds=BOUNDS)
        if what < 0.8:
            return await store.remove(key, given.line, NOW)
        if what < 0.9:
            return await store.cart(key, at=1_500)
        if what < 0.95:
            return await store.clear(key, NOW)
        return await store.checkout(key, NOW, kept_until=9_000, bounds=BOUNDS)
    except (CartLimit, CartFull) as refusal:
        return type(refusal)


async def test_a_full_disk_is_said_and_nothing_is_half_done(tmp_path: pathlib.Path) -> None:
    made = in_a_file(tmp_path)
    await made.open()
    store = SqliteShopStore(made, bounds=BOUNDS)
    try:
        await add(store)
        await made.write(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
        adding = (add(store, ShopKey("t", "t/s", f"{n:250}")) for n in range(1_000))
        outcomes = await asyncio.gather(*adding, return_exceptions=True)
        assert any(isinstance(outcome, StoreFull) for outcome in outcomes)
        await made.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))
        assert (await add(store)).quantity == 2
    finally:
        await made.close()


async def test_everything_survives_a_restart(tmp_path: pathlib.Path) -> None:
    for quantity in (1, 2):
        made = in_a_file(tmp_path)
        await made.open()
        cart = await add(SqliteShopStore(made))
        assert cart.quantity == quantity
        await made.close()


async def test_every_frequent_query_uses_an_index(tmp_path: pathlib.Path) -> None:
    made = in_a_file(tmp_path)
    await made.open()
    await made.close()
    connection = sqlite3.connect(tmp_path / "gateway.db")
    for query in FREQUENT:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
        assert "SCAN" not in plan, f"{query}: {plan}"
    connection.close()


def test_a_line_is_what_was_stored() -> None:
    assert msgspec.json.decode(msgspec.json.encode(line()), type=CartLine) == line()
