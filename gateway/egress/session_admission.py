"""The rules of one session, for its worker's doors.

Guarantees:
- what no list allows is not even looked up, so that a name carries nothing out;
- nobody can approve what a list denies, a private or a metadata address: these are judged after every answer;
- a session that narrowed its lists is not asked about what lies outside;
- every refusal is said in words, in the log of the session, and to operators.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Literal, Protocol

from gateway.config.host_rules import HostRule, canonical, host_rule, is_numeric
from gateway.config.hosts import plain_host
from gateway.config.tables import DAY_MILLISECONDS
from gateway.egress.addresses import AddressRefused
from gateway.egress.admission import Admitted, NotAdmitted, Why
from gateway.egress.asking import SECONDS, Questions
from gateway.egress.control import EgressControl, widening
from gateway.egress.lookup import LookupFailed
from gateway.egress.refusals import Refusals
from gateway.egress.rules import HostLists
from gateway.egress.session_lookups import SessionLookups
from gateway.errors import EgressNotAsked
from gateway.events.facts import EgressAnswered, EgressAsked, EgressDenied
from gateway.events.fold import EgressFold
from gateway.principal import Principal

Choice = Literal["once", "session", "always", "deny"]
SHOWN_CHARACTERS: Final = 80
"""Of what is no host name, as it is shown."""
_LAST_PORT: Final = 65_535
_WORDS: Final[dict[Why, str]] = {
    "unlisted": "{host} is not on this agent's list of hosts.",
    "denied": "{host} is denied here.",
    "address": "{host} is an address; this agent reaches hosts by their names.",
    "malformed": "{host} is no host name.",
    "private": "{host} leads to no public address.",
    "unknown": "{host} cannot be found.",
    "unreachable": "{host} cannot be reached.",
    "server_name": "The connection to {host} names no host, or another than was looked up.",
    "limit": "{host} is not reached now: this session has too many connections, or used up its bytes.",
    "credential": "This request to {host} is not one that its credential is for.",
}
_USED_UP: Final = "This session has used up the bytes that it may transfer today (egress.bytes_per_day)."
_DENIED_BY_PERSON: Final = "You refused {host} for this session."


class EgressSubject(Protocol):
    """A session, as its admission sees it."""

    @property
    def key(self) -> str:
        """Its internal key."""

    @property
    def agent(self) -> str:
        """The name of its agent."""

    @property
    def tenant(self) -> str:
        """The name of its tenant."""

    @property
    def turn_id(self) -> str | None:
        """The turn that runs."""

    @property
    def egress(self) -> EgressFold:
        """What its log says."""

    def say(self, event: EgressDenied | EgressAsked | EgressAnswered) -> None:
        """Appends to its log."""


class SessionAdmission:
    """Implements `egress.admission.Admission`; see the module. It outlives workers; `end` with each."""

    def __init__(
        self,
        subject: EgressSubject,
        control: EgressControl,
        *,
        credential_of: Callable[[str, int], str] = lambda _host, _port: "",
        ask_seconds: float = SECONDS,
    ) -> None:
        """`credential_of` says which `[credentials.NAME]` a host and port have."""
        self._subject = subject
        self._control = control
        self._credential_of = credential_of
        self._refusals = Refusals(subject.say, turn_id=lambda: subject.turn_id)
        self._questions = Questions(
            partial(_say_of_questions, subject, control),  # not bound to this: it is freed with its session
            turn_id=lambda: subject.turn_id,
            seconds=ask_seconds,
        )
        self._lookups = SessionLookups(control.addresses)
        self._once: set[tuple[str, int]] = set()
        self._answers: dict[tuple[str, int], bool] = {}
        """Those that the fold shows as soon as they are on the disk."""
        self._day = 0
        self._bytes = 0

    # -- for the doors ----------------------------------------------------------------------------------

    async def admit(self, host: str, port: int) -> Admitted | NotAdmitted:
        """Decides about one connection; see `Admission`."""
        if is_numeric(host):
            return self.refuse(host, port, "address")
        name = canonical(host)
        if name is None or not 0 < port <= _LAST_PORT:
            return self.refuse(host, port, "malformed")
        if self._is_used_up:
            return self._refused(name, port, "limit", _USED_UP)
        return await self._admit_name(name, port)

    async def _admit_name(self, name: str, port: int) -> Admitted | NotAdmitted:
        addresses = self._control.addresses
        outcome, words = self._decide(name, port)
        if outcome == "unlisted" and await self._control.wait_for_registries(
            agent=self._subject.agent, tenant=self._subject.tenant
        ):
            outcome, words = self._decide(name, port)
        if outcome == "unlisted" and self._may_ask:
            if (objection := addresses.objection_to_name(name, port)) is not None:
                return self._refused(name, port, "private", objection.words)
            answer = await self._questions.ask(name, port)
            if answer == "once":
                self._once.add((name, port))
            outcome, words = self._decide(name, port)
            if answer == "once" and outcome == "unlisted":
                outcome = "allowed"
        if outcome != "allowed":
            return self._refused(name, port, outcome, words)
        return await self._located(name, port)

    async def _located(self, name: str, port: int) -> Admitted | NotAdmitted:
        """Where an allowed host is dialled."""
        addresses, proxy = self._control.addresses, self._control.settings.proxy
        credential = self._credential_of(name, port)
        if (objection := addresses.objection_to_name(name, port)) is not None:
            return self._refused(name, port, "private", objection.words)
        if proxy and not addresses.is_private_host(name, port):
            return Admitted(host=name, port=port, addresses=(), proxy=proxy, credential=credential)
        try:
            found = await self._lookups.resolve(name, port)
        except AddressRefused as refused:
            return self._refused(name, port, "private", str(refused))
        except LookupFailed as error:
            return self._refused(name, port, "unknown", str(error))
        if not self.may_go_on(name, port):  # the rules changed while it was looked up
            outcome, words = self._decide(name, port)
            return self._refused(name, port, "denied" if outcome == "denied" else "unlisted", words)
        return Admitted(host=name, port=port, addresses=tuple(found), credential=credential)

    def may_go_on(self, host: str, port: int) -> bool:
        """Whether a connection that was admitted is still allowed: asked again after `on_changed`."""
        outcome, _ = self._decide(host, port)
        return outcome == "allowed" or (outcome == "unlisted" and (host, port) in self._once)

    def on_changed(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Calls `watcher` whenever the rules may be other ones; what is returned ends that."""
        return self._control.on_changed(watcher)

    def refuse(self, host: str, port: int, why: Why) -> NotAdmitted:
        """Notes a refusal and says it in words; see `Admission`."""
        return self._refused(host, port, why, "")

    def transferred(self, *, sent: int, received: int) -> bool:
        """Counts bytes; see `Admission`. The count is of this gateway's life."""
        today = self._control.wall_ms() // DAY_MILLISECONDS
        if today != self._day:
            self._day, self._bytes = today, 0
        self._bytes += sent + received
        self._control.note_transferred(sent=sent, received=received)
        return not self._is_used_up

    def end(self) -> None:
        """The worker is gone: says what was not said, and answers what nobody waits for any more."""
        self._questions.end()
        self._lookups.end()
        self._refusals.end()
        self._once.clear()

    # -- for the person ---------------------------------------------------------------------------------

    def answer(self, ask_id: str, choice: Choice, *, principal: Principal) -> HostRule:
        """Answers a question; what it was about. Raises EgressNotAsked, StoreFailed."""
        asked = self._questions.find(ask_id)
        if asked is None:
            raise EgressNotAsked
        rule = host_rule(f"{asked.host}:{asked.port}")
        if choice in ("session", "deny"):
            self._answers[asked.host, asked.port] = choice == "session"
        if choice == "always":
            subject = self._subject
            self._control.approve(rule, agent=subject.agent, tenant=subject.tenant, by=principal.owner)
        self._questions.answer(ask_id, choice)
        return rule

    # -- inner ------------------------------------------------------------------------------------------

    @property
    def _lists(self) -> HostLists:
        return self._control.lists(agent=self._subject.agent, tenant=self._subject.tenant)

    @property
    def _may_ask(self) -> bool:
        return self._control.settings.unlisted == "ask" and self._subject.egress.narrowed is None

    @property
    def _is_used_up(self) -> bool:
        most = self._control.settings.bytes_per_day
        is_today = self._control.wall_ms() // DAY_MILLISECONDS == self._day
        return 0 < most <= self._bytes and is_today

    def _decide(self, name: str, port: int) -> tuple[Literal["allowed", "denied", "unlisted"], str]:
        """What the lists, the session and its person say of a canonical name."""
        outcome, egress = self._lists.decide(name, port).outcome, self._subject.egress
        if outcome == "denied":
            return "denied", ""
        if egress.narrowed is not None:
            is_kept = any(host_rule(entry).matches(name, port) for entry in egress.narrowed)
            return ("allowed" if outcome == "allowed" and is_kept else "unlisted"), ""
        if outcome == "allowed":
            return "allowed", ""
        answer = self._answers.get((name, port), egress.answers.get((name, port)))
        if answer is None:
            return "unlisted", ""
        return ("allowed", "") if answer else ("denied", _DENIED_BY_PERSON.format(host=name))

    def _refused(self, host: str, port: int, why: Why, words: str) -> NotAdmitted:
        shown, subject = _shown(host), self._subject
        is_first = self._refusals.note(shown, port, why)
        is_on_no_list = why == "unlisted" and subject.egress.narrowed is None
        hint = widening(shown, port, agent=subject.agent) if is_on_no_list else ""
        self._control.note_refused(
            session=subject.key,
            agent=subject.agent,
            tenant=subject.tenant,
            host=shown,
            port=port,
            why=why,
            is_first=is_first,
            hint=hint,
        )
        words = words or _WORDS[why].format(host=shown or "This")
        return NotAdmitted(why=why, words=words + hint)


def _say_of_questions(
    subject: EgressSubject, control: EgressControl, event: EgressAsked | EgressAnswered
) -> None:
    if isinstance(event, EgressAnswered):
        control.note_answered(event.answer)
    subject.say(event)


def _shown(host: str) -> str:
    """A host as it is shown: its one form, or what of it can be printed."""
    if (name := canonical(host)) is not None:
        return name
    plain = plain_host(host[:SHOWN_CHARACTERS]) if is_numeric(host) else host[:SHOWN_CHARACTERS]
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in plain)
