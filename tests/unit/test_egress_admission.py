"""May a worker connect there: the rules of one session, against resolvers that lie and people who answer."""

from __future__ import annotations

import asyncio
import json
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.config.file import load
from gateway.config.tables import Config
from gateway.egress import refusals
from gateway.egress.addresses import AddressRules
from gateway.egress.admission import Admission, Admitted, NotAdmitted
from gateway.egress.approvals import FILE_NAME
from gateway.egress.asking import ASKS_PER_TURN
from gateway.egress.control import EgressControl
from gateway.egress.lookup import Lookup, LookupFailed
from gateway.egress.refused_hosts import HOSTS
from gateway.egress.registries import RegistryHosts
from gateway.egress.session_admission import SessionAdmission
from gateway.egress.session_lookups import LOOKUPS_AT_ONCE, SessionLookups
from gateway.errors import EgressNotAsked
from gateway.events import facts as ev
from gateway.events.fold import ChatState, EgressFold
from gateway.principal import LOCAL
from gateway.telemetry.metrics import Metrics, Standing
from tests.patience import crowding, soon

PUBLIC = "93.184.216.34"
TEXT = """
[egress]
hosts = ["packages.example", "*.cdn.example", "ssh.example:22", "inward.example",
         "corp.example", "meta.example"]
denied = ["bad.cdn.example"]
private_hosts = ["corp.example", "meta.example"]
"""


class Subject:
    """A session whose log is a list, folded at once."""

    def __init__(self) -> None:
        self.key, self.agent, self.tenant = "k1", "coder", "acme"
        self.turn_id: str | None = "t1"
        self.fold = ChatState("s1")
        self.said: list[Any] = []
        self.heard = asyncio.Event()

    @property
    def egress(self) -> EgressFold:
        return self.fold.egress

    def say(self, event: ev.EgressDenied | ev.EgressAsked | ev.EgressAnswered | ev.EgressNarrowed) -> None:
        self.said.append(event)
        self.fold.apply(ev.Event(len(self.said), 0, event))
        self.heard.set()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.said if isinstance(event, kind)]

    async def asked(self, number: int = 1) -> ev.EgressAsked:
        while len(self.of(ev.EgressAsked)) < number:
            self.heard.clear()
            await self.heard.wait()
        question: ev.EgressAsked = self.of(ev.EgressAsked)[number - 1]
        return question


class World:
    """One session's admission, its settings and the names that there are."""

    def __init__(self, directory: pathlib.Path, text: str = TEXT, *, ask_seconds: float = 30.0) -> None:
        self.directory = directory
        self.config = self.read(text)
        self.names: dict[str, Iterator[list[str]] | list[str]] = {}
        self.looked_up: list[str] = []
        self.now = 1_800_000_000_000
        self.subject = Subject()
        self.metrics = Metrics(version="0", monotonic=time.monotonic)
        rules = AddressRules(
            private_hosts=lambda: self.config.egress.private_hosts,
            own_url=lambda: "http://127.0.0.1:8080",
            lookup=Lookup(self.resolve),
        )
        self.control = EgressControl(
            config=lambda: self.config,
            addresses=rules,
            metrics=self.metrics,
            wall_ms=lambda: self.now,
            directory=directory,
            registries=RegistryHosts(lambda _command: ""),
        )
        self.admission = SessionAdmission(self.subject, self.control, ask_seconds=ask_seconds)

    def read(self, text: str) -> Config:
        path = self.directory / "gateway.toml"
        path.write_text(text)
        return load(path, environ={})

    def reload(self, text: str) -> None:
        self.config = self.read(text)
        self.control.changed()

    def resolve(self, host: str, _port: int) -> list[str]:
        self.looked_up.append(host)
        found = self.names.get(host, [PUBLIC])
        return found if isinstance(found, list) else next(found)

    async def admitted(self, host: str, port: int = 443) -> Admitted:
        found = await self.admission.admit(host, port)
        assert isinstance(found, Admitted), found
        return found

    async def refused(self, host: str, port: int = 443) -> NotAdmitted:
        found = await self.admission.admit(host, port)
        assert isinstance(found, NotAdmitted), found
        assert found.words
        return found


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Callable[..., World]:
    return lambda *args, **kwargs: World(tmp_path, *args, **kwargs)


def test_it_is_what_doors_ask() -> None:
    _: type[Admission] = SessionAdmission


async def test_a_listed_host_is_dialled_where_it_was_found(world: Callable[..., World]) -> None:
    one = world()
    one.names["packages.example"] = [PUBLIC, "2606:4700::1111"]
    found = await one.admitted("Packages.Example.")
    assert found == Admitted(host="packages.example", port=443, addresses=(PUBLIC, "2606:4700::1111"))
    assert (await one.admitted("a.b.cdn.example")).host == "a.b.cdn.example"
    assert (await one.admitted("ssh.example", 22)).port == 22
    assert not one.subject.said


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("evil.example", 443, "unlisted"),
        ("packages.example", 22, "unlisted"),
        ("packages.example", 8443, "unlisted"),
        ("ssh.example", 443, "unlisted"),
        ("cdn.example", 443, "unlisted"),
        ("evilcdn.example", 443, "unlisted"),
        ("bad.cdn.example", 443, "denied"),
        ("BAD.cdn.example.", 22, "denied"),
        ("packages.example..", 443, "malformed"),
        (".cdn.example", 443, "malformed"),
        ("user@packages.example", 443, "malformed"),
        ("packages.example%00", 443, "malformed"),
        ("packages.example\0.evil.example", 443, "malformed"),
        ("packages.example\r\nHost: x", 443, "malformed"),
        ("p\u0430ckages.example", 443, "malformed"),
        ("xn--pckages-6qf.example", 443, "unlisted"),
        ("a." * 127 + "cdn.example", 443, "malformed"),
        ("", 443, "malformed"),
        ("packages.example", 0, "malformed"),
        ("packages.example", 65_536, "malformed"),
        *(
            (address, 443, "address")
            for address in (
                *("169.254.169.254", "10.0.0.1", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433"),
                *("0x7f000001", "0177.0.0.1", "127.1", "fe80::1%eth0", "8.8.8.8", "1.2.3.4."),
            )
        ),
    ],
)
async def test_all_else_is_refused_and_not_even_looked_up(
    world: Callable[..., World], host: str, port: int, why: str
) -> None:
    one = world()
    assert (await one.refused(host, port)).why == why
    assert one.looked_up == []
    assert [(event.why, event.count) for event in one.subject.of(ev.EgressDenied)] == [(why, 1)]
    assert one.subject.said[0].host.isprintable()


@pytest.mark.parametrize(
    "addresses",
    [
        *(["127.0.0.1"], ["10.1.2.3"], ["169.254.1.1"], ["169.254.169.254"], ["100.64.0.1"], ["224.0.0.1"]),
        *(["0.0.0.0"], ["::1"], ["fe80::1%eth0"], ["fc00::1"], ["::ffff:10.0.0.1"], ["64:ff9b::a9fe:a9fe"]),  # noqa: S104
        *(["2002:a00:1::"], ["2001:0:808:808::f7f7:f7f7"], [PUBLIC, "10.0.0.1"], [PUBLIC, "fd00:ec2::254"]),
    ],
)
async def test_a_listed_name_that_leads_inward_is_refused(
    world: Callable[..., World], addresses: list[str]
) -> None:
    one = world()
    one.names["inward.example"] = addresses
    assert (await one.refused("inward.example")).why == "private"


async def test_a_private_host_may_lead_inward_but_never_to_metadata_nor_to_this_gateway(
    world: Callable[..., World],
) -> None:
    one = world(TEXT.replace('"corp.example",', '"corp.example", "corp.example:8080",', 1))
    one.names["corp.example"] = ["10.1.2.3"]
    assert (await one.admitted("corp.example")).addresses == ("10.1.2.3",)
    one.names["meta.example"] = ["169.254.169.254"]
    assert (await one.refused("meta.example")).why == "private"
    one.names["corp.example"] = ["127.0.0.1"]
    assert (await one.admitted("corp.example")).addresses == ("127.0.0.1",)
    refused = await one.refused("corp.example", 8080)
    assert "this gateway itself" in refused.words


async def test_a_name_that_changes_its_answer_leads_nowhere_else(world: Callable[..., World]) -> None:
    one = world()
    one.names["packages.example"] = iter([[PUBLIC], ["127.0.0.1"], ["169.254.169.254"]])
    assert (await one.admitted("packages.example")).addresses == (PUBLIC,)
    assert one.looked_up == ["packages.example"]
    assert (await one.refused("packages.example")).why == "private"
    assert (await one.refused("packages.example")).why == "private"


async def test_a_name_that_leads_nowhere_is_unknown(world: Callable[..., World]) -> None:
    one = world()
    one.names["packages.example"] = []
    assert (await one.refused("packages.example")).why == "unknown"


async def test_connections_to_one_host_share_a_look_up_and_a_session_has_a_bounded_number(
    world: Callable[..., World],
) -> None:
    one, answered = world(), threading.Event()
    running: list[str] = []
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(host: str, _port: int) -> list[str]:
        running.append(host)
        if len(running) == LOOKUPS_AT_ONCE:
            loop.call_soon_threadsafe(begun.set)
        answered.wait(10 * crowding())
        return [PUBLIC]

    one.control.addresses = AddressRules(private_hosts=lambda: (), lookup=Lookup(slow))
    one.admission = SessionAdmission(one.subject, one.control)
    hosts = [f"h{number}.cdn.example" for number in range(LOOKUPS_AT_ONCE + 8)]
    waiting = [asyncio.create_task(one.admission.admit(host, 443)) for host in hosts for _ in range(5)]
    await soon(begun.wait(), 10)
    await asyncio.sleep(0)
    assert sorted(running) == sorted(hosts[:LOOKUPS_AT_ONCE])
    waiting[0].cancel()  # whose connection is gone takes nothing from the others
    answered.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(each, Admitted) for each in found) == len(waiting) - 1
    assert sorted(running) == sorted(hosts)


async def test_a_look_up_that_is_silent_ends_in_words(world: Callable[..., World]) -> None:
    one, answered = world(), threading.Event()
    rules = AddressRules(
        private_hosts=lambda: (), lookup=Lookup(lambda _host, _port: [str(answered.wait(10 * crowding()))])
    )
    with pytest.raises(LookupFailed, match="was not found within"):
        await SessionLookups(rules, seconds=0.01).resolve("packages.example", 443)
    one.control.addresses = rules
    one.admission = SessionAdmission(one.subject, one.control)
    waiting = asyncio.create_task(one.admission.admit("packages.example", 443))
    await asyncio.sleep(0)
    one.admission.end()
    found = await waiting
    assert isinstance(found, NotAdmitted)
    assert found.why == "unknown"
    answered.set()


async def test_a_proxy_resolves_but_for_private_hosts(world: Callable[..., World]) -> None:
    one = world(TEXT + 'proxy = "http://proxy.example:3128"\n')
    found = await one.admitted("packages.example")
    assert (found.addresses, found.proxy) == ((), "http://proxy.example:3128")
    assert one.looked_up == []
    one.names["corp.example"] = ["10.0.0.7"]
    assert (await one.admitted("corp.example")).addresses == ("10.0.0.7",)


# -- refusals, joined ------------------------------------------------------------------------------------


async def test_a_burst_of_refusals_is_few_events_and_none_is_lost(world: Callable[..., World]) -> None:
    one = world()
    for _ in range(178):
        await one.refused("evil.example")
    assert [event.count for event in one.subject.said] == [1]
    one.admission.end()
    assert [event.count for event in one.subject.said] == [1, 178]
    assert one.subject.egress.denied["evil.example", 443, "unlisted"].count == 178
    assert b'egress_denied_total{why="unlisted"} 178.0' in one.metrics.exposition(Standing())


async def test_later_refusals_are_joined_after_a_while(tmp_path: pathlib.Path) -> None:
    said: list[ev.EgressDenied] = []
    heard = asyncio.Event()

    def say(event: ev.EgressDenied) -> None:
        said.append(event)
        heard.set()

    joined = refusals.Refusals(say, turn_id=lambda: "t1", pauses=(0.01, 0.01))
    for _ in range(50):
        joined.note("a.example", 443, "unlisted")
    heard.clear()
    await soon(heard.wait(), 10)
    assert [event.count for event in said] == [1, 50]


async def test_a_turn_is_told_of_a_bounded_number_of_hosts(world: Callable[..., World]) -> None:
    one = world()
    for number in range(500):
        await one.refused(f"h{number}.evil.example")
    one.admission.end()
    assert len(one.subject.said) == refusals.HOSTS + 2
    further = one.subject.said[-1]
    assert (further.host, further.count) == ("", 500 - refusals.HOSTS)
    one.subject.turn_id = "t2"
    await one.refused("h0.evil.example")
    assert (one.subject.said[-1].turn_id, one.subject.said[-1].count) == ("t2", 1)


async def test_operators_see_what_was_refused_in_the_last_day(world: Callable[..., World]) -> None:
    one = world()
    await one.refused("old.example")
    one.now += 25 * 3600 * 1000
    await one.refused("evil.example")
    await one.refused("evil.example")
    found = one.control.refused.last_day(tenant=None)
    assert [(each.agent, each.tenant, each.host, each.count) for each in found] == [
        ("coder", "acme", "evil.example", 2)
    ]
    assert one.control.refused.last_day(tenant="other") == []


async def test_what_one_agent_tries_pushes_out_nothing_of_anothers(world: Callable[..., World]) -> None:
    one = world()
    await one.refused("evil.example")
    one.subject.agent = "noisy"
    for number in range(2 * HOSTS):
        await one.refused(f"h{number}.example")
    found = one.control.refused.last_day(tenant=None)
    assert len(found) == HOSTS + 1
    assert "evil.example" in {each.host for each in found}


async def test_what_a_door_refuses_is_noted_too(world: Callable[..., World]) -> None:
    one = world()
    refused = one.admission.refuse("packages.example", 443, "server_name")
    assert "packages.example" in refused.words
    assert one.subject.said == [ev.EgressDenied("packages.example", 443, "server_name", 1, "t1")]


# -- asking ----------------------------------------------------------------------------------------------

ASKING = TEXT + 'unlisted = "ask"\n'


@pytest.mark.parametrize(
    ("choice", "now", "later"),
    [
        ("once", "admitted", "asked"),
        ("session", "admitted", "admitted"),
        ("always", "admitted", "admitted"),
        ("deny", "refused", "refused"),
    ],
)
async def test_a_person_answers(world: Callable[..., World], choice: Any, now: str, later: str) -> None:
    one = world(ASKING)
    both = [asyncio.create_task(one.admission.admit("new.example", 443)) for _ in range(2)]
    asked = await one.subject.asked()
    assert (asked.host, asked.port, asked.turn_id) == ("new.example", 443, "t1")
    assert one.looked_up == []
    one.admission.answer(asked.ask_id, choice, principal=LOCAL)
    for found in await asyncio.gather(*both):
        assert isinstance(found, Admitted if now == "admitted" else NotAdmitted)
    assert one.subject.of(ev.EgressAnswered) == [ev.EgressAnswered(asked.ask_id, choice)]
    with pytest.raises(EgressNotAsked):
        one.admission.answer(asked.ask_id, choice, principal=LOCAL)
    again = asyncio.create_task(one.admission.admit("new.example", 443))
    if later == "asked":
        await one.subject.asked(2)
        one.admission.end()
    assert isinstance(await again, Admitted if later == "admitted" else NotAdmitted)
    assert len(one.subject.of(ev.EgressAsked)) == (2 if later == "asked" else 1)


async def test_nobody_answers(world: Callable[..., World]) -> None:
    one = world(ASKING, ask_seconds=0.01)
    assert (await one.refused("new.example")).why == "unlisted"
    assert one.subject.of(ev.EgressAnswered)[0].answer == "timeout"
    assert one.subject.fold.egress.asked == {}
    assert one.looked_up == []


async def test_what_is_asked_is_bounded(world: Callable[..., World]) -> None:
    one = world(ASKING, ask_seconds=0.001)
    for number in range(ASKS_PER_TURN + 5):
        await one.refused(f"h{number}.example")
    assert len(one.subject.of(ev.EgressAsked)) == ASKS_PER_TURN


async def test_nobody_is_asked_what_nobody_may_allow(world: Callable[..., World]) -> None:
    one = world(ASKING)
    assert (await one.refused("bad.cdn.example")).why == "denied"
    assert (await one.refused("localhost")).why == "private"
    assert (await one.refused("printer.local")).why == "private"
    assert (await one.refused("169.254.169.254")).why == "address"
    assert not one.subject.of(ev.EgressAsked)


@pytest.mark.parametrize("inward", ["169.254.169.254", "10.0.0.1", "127.0.0.1"])
async def test_an_answer_opens_no_way_inward(world: Callable[..., World], inward: str) -> None:
    one = world(ASKING)
    one.names["new.example"] = [inward]
    waiting = asyncio.create_task(one.admission.admit("new.example", 443))
    one.admission.answer((await one.subject.asked()).ask_id, "session", principal=LOCAL)
    found = await waiting
    assert isinstance(found, NotAdmitted)
    assert found.why == "private"


async def test_what_is_allowed_always_is_kept_for_its_agent_and_tenant(world: Callable[..., World]) -> None:
    one = world(ASKING)
    waiting = asyncio.create_task(one.admission.admit("new.example", 22))
    one.admission.answer((await one.subject.asked()).ask_id, "always", principal=LOCAL)
    await waiting
    kept = json.loads((one.directory / FILE_NAME).read_text())
    assert [(each["tenant"], each["agent"], each["host"], each["by"]) for each in kept] == [
        ("acme", "coder", "new.example:22", "default/local")
    ]
    assert (one.directory / FILE_NAME).stat().st_mode & 0o777 == 0o600
    later = world()
    await later.control.open()
    assert (await later.admitted("new.example", 22)).host == "new.example"
    assert (await later.refused("new.example", 443)).why == "unlisted"
    assert later.control.lists(agent="other", tenant="acme").decide("new.example", 22).outcome == "unlisted"
    assert later.control.lists(agent="coder", tenant="b").decide("new.example", 22).outcome == "unlisted"
    later.reload(TEXT.replace('"bad.cdn.example"', '"new.example"'))
    assert (await later.refused("new.example", 22)).why == "denied"
    (later.directory / FILE_NAME).unlink()
    later.reload(TEXT)
    assert (await later.refused("new.example", 22)).why == "unlisted"


async def test_a_damaged_file_of_approvals_allows_nothing(world: Callable[..., World]) -> None:
    one = world()
    for damaged in ("{", '[{"tenant": "acme", "agent": "coder", "host": "*", "by": "", "at": ""}]'):
        (one.directory / FILE_NAME).write_text(damaged)
        await one.control.open()
        assert (await one.refused("new.example")).why == "unlisted"


# -- narrowing, changing, bytes --------------------------------------------------------------------------


async def test_a_narrowed_session_reaches_less_and_is_not_asked(world: Callable[..., World]) -> None:
    one = world(ASKING)
    one.subject.say(ev.EgressNarrowed(("packages.example:443", "x.cdn.example")))
    assert (await one.admitted("packages.example")).port == 443
    assert (await one.refused("packages.example", 80)).why == "unlisted"
    assert (await one.refused("new.example")).why == "unlisted"
    one.reload(ASKING.replace('"packages.example", ', ""))
    assert (await one.refused("packages.example")).why == "unlisted"
    assert not one.subject.of(ev.EgressAsked)


async def test_a_reload_changes_what_is_allowed_and_says_so(world: Callable[..., World]) -> None:
    one = world(ASKING)
    heard: list[bool] = []
    stop = one.admission.on_changed(lambda: heard.append(one.admission.may_go_on("packages.example", 443)))
    one.reload(ASKING.replace('"packages.example", ', ""))
    one.reload(ASKING)
    assert heard == [False, True]
    stop()
    one.reload(ASKING)
    assert heard == [False, True]
    waiting = asyncio.create_task(one.admission.admit("new.example", 443))
    one.admission.answer((await one.subject.asked()).ask_id, "once", principal=LOCAL)
    await waiting
    assert one.admission.may_go_on("new.example", 443)
    one.reload(ASKING.replace('"bad.cdn.example"', '"new.example"'))
    assert not one.admission.may_go_on("new.example", 443)


async def test_bytes_are_counted_by_day(world: Callable[..., World]) -> None:
    one = world(TEXT + "bytes_per_day = 1000\n")
    assert one.admission.transferred(sent=400, received=500)
    assert not one.admission.transferred(sent=0, received=100)
    refused = await one.refused("packages.example")
    assert (refused.why, "bytes_per_day" in refused.words) == ("limit", True)
    one.now += 24 * 3600 * 1000
    assert (await one.admitted("packages.example")).port == 443
    assert one.admission.transferred(sent=999, received=0)


WITH_REGISTRIES = TEXT.replace("hosts = [", 'hosts = ["registries", ', 1) + '[agents.coder]\ncommand = "x"\n'


async def test_a_connection_waits_for_registries_that_are_being_read_and_no_other_does(
    world: Callable[..., World],
) -> None:
    one, may_answer = world(WITH_REGISTRIES), threading.Event()

    def ask(command: tuple[str, ...]) -> str:
        may_answer.wait(30 * crowding())
        return "https://index.example/" if "-c" in command else ""

    one.control.registries = RegistryHosts(ask)
    one.control.read_registries()
    assert (await one.admitted("packages.example")).port == 443
    waiting = [
        asyncio.create_task(one.admission.admit(host, 443)) for host in ("index.example", "evil.example")
    ]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    assert not await one.control.wait_for_registries(agent="coder", tenant="default", seconds=0.01)
    may_answer.set()
    found, refused = await asyncio.gather(*waiting)
    assert isinstance(found, Admitted)
    assert isinstance(refused, NotAdmitted)
    assert refused.words.endswith('add "evil.example" to agents.coder.hosts or egress.hosts.')
    assert (await one.refused("other.example", 8443)).words.endswith(
        'can add "other.example:8443" to agents.coder.hosts or egress.hosts.'
    )


async def test_a_tool_that_does_not_answer_holds_a_connection_for_a_bounded_time(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, may_answer = world(WITH_REGISTRIES), threading.Event()
    monkeypatch.setattr(EgressControl.wait_for_registries, "__kwdefaults__", {"seconds": 0.05})
    one.control.registries = RegistryHosts(lambda _command: str(may_answer.wait(30 * crowding()) or ""))
    one.control.read_registries()
    assert (await one.refused("index.example")).why == "unlisted"
    may_answer.set()
    await one.control.aclose()
