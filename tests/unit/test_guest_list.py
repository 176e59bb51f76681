"""Who is in product chats elsewhere: what others say holds for a while, and the later word holds."""

from __future__ import annotations

from gateway.apps.product_chat.facts import PosterType
from gateway.apps.product_chat.floor import Floor, Guest
from gateway.apps.product_chat.guest_list import GUESTS_TOLD, KEPT_SECONDS, GuestList, GuestsTold
from gateway.apps.product_chat.settings import ProductsConfig

BOUNDS = ProductsConfig(sockets_per_visitor=9_999, sockets_per_session=9_999, sockets_per_address=9_999)


class Gateway:
    """One that has told `said`, and whose clock stands at `now`."""

    def __init__(self) -> None:
        self.floor = Floor(lambda: BOUNDS)
        self.said: list[GuestsTold] = []
        self.now = 0.0
        self.guests = GuestList(self.floor, tell=self.said.append, monotonic=lambda: self.now)

    def enter(self, name: str, *, is_staff: bool = False) -> Guest:
        kind: PosterType = "admin" if is_staff else "customer"
        guest = Guest(
            connection_id=name, kind=kind, name=name, owner="t/o", address="1", tenant="t", session_id="s",
            product_id=7,
        )  # fmt: skip
        assert self.floor.enter(guest) is None
        return guest

    def counted(self) -> tuple[int, int]:
        """Connections, and people whose names are known."""
        return self.guests.stats("t")["total_connections"], len(self.guests.in_session("s"))


def test_others_are_counted_until_they_leave_or_are_silent() -> None:
    here, there = Gateway(), Gateway()
    here.enter("ann")
    guest = there.enter("bob")
    there.guests.say()
    here.guests.heard(there.said[0])
    assert here.counted() == (2, 2)
    assert here.guests.stats("t")["connections_by_product"] == {"7": 2}
    assert here.guests.stats("other")["total_connections"] == 0
    here.now = KEPT_SECONDS
    assert here.counted() == (1, 1), "it may have died"
    there.guests.say()
    here.guests.heard(there.said[1])
    assert here.counted() == (2, 2)
    there.floor.leave(guest)
    there.guests.say()
    here.guests.heard(there.said[2])
    here.guests.heard(there.said[1])
    assert here.counted() == (1, 1), "an earlier word that comes late says nothing"


def test_of_very_many_the_staff_is_named_and_all_are_counted() -> None:
    here, there = Gateway(), Gateway()
    for number in range(GUESTS_TOLD + 5):
        there.enter(f"visitor {number}")
    there.enter("ruth", is_staff=True)
    there.guests.say()
    here.guests.heard(there.said[0])
    assert here.counted() == (GUESTS_TOLD + 6, GUESTS_TOLD)
    assert here.guests.in_session("s")[0].name == "ruth"
