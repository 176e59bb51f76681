"""Tickets between gateways whose machines have other clocks."""

from __future__ import annotations

import pytest

from gateway.auth.node_tickets import SECONDS, NodeTickets, Said, TicketUnfit
from gateway.auth.tickets import Tickets
from gateway.principal import LOCAL

NOW = 1_800_000_000_000
HOUR = 3_600_000


def gateway(wall_ms: int, shared_ms: int) -> NodeTickets:
    """What a gateway has whose own clock, and whose store, say this."""
    tickets = Tickets(wall_ms=lambda: wall_ms)
    tickets.open(bytes(32))
    return NodeTickets(tickets, shared_ms=lambda: shared_ms)


def shown(writes: NodeTickets, reads: NodeTickets) -> int:
    """When the ticket was written that one wrote and the other read."""
    text = writes.write(Said(edge=1, to=2, mark="m", asked="a"), LOCAL)
    return reads.read(text, asked="a").said.at


@pytest.mark.parametrize("apart", [-HOUR, 0, HOUR])
def test_clocks_may_be_an_hour_apart(apart: int) -> None:
    assert shown(gateway(NOW + apart, NOW), gateway(NOW, NOW + 900)) == NOW


@pytest.mark.parametrize("late", [-1, 1])
def test_a_ticket_is_good_for_half_a_minute_by_the_clock_of_the_store(late: int) -> None:
    edge = round(SECONDS * 1000)
    assert shown(gateway(NOW, NOW), gateway(NOW, NOW + late * edge)) == NOW
    with pytest.raises(TicketUnfit, match="by the clock of the store"):
        shown(gateway(NOW, NOW), gateway(NOW, NOW + late * (edge + 1)))


def test_a_ticket_is_good_once() -> None:
    writes, reads = gateway(NOW, NOW), gateway(NOW + HOUR, NOW)
    text = writes.write(Said(edge=1, to=2, mark="m", asked="a"), LOCAL)
    reads.read(text, asked="a")
    with pytest.raises(TicketUnfit, match="used before"):
        reads.read(text, asked="a")
