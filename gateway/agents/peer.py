"""AgentPeer: one worker's side of a session. What the agent says becomes events; what it asks is answered.

Permission requests wait for a person; model calls go through the broker, one at a time, and end with the
turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import UNSET, Raw, Struct

from gateway.agents import help as agent_help
from gateway.agents import permission_rules
from gateway.agents.broker import Broker
from gateway.agents.catalogue import Agent
from gateway.agents.claims import Claim
from gateway.agents.completion import ModelDelta, ModelError, ModelRequest, ModelResult
from gateway.agents.connection import (
    AcpConnection,
    AgentError,
    AgentGone,
    AgentSession,
    AuthMethod,
    Initialized,
    WireError,
)
from gateway.agents.elicitation import Elicitations
from gateway.agents.greeting import Greeted, greet, offer
from gateway.agents.links import has_link
from gateway.agents.options import AgentChoices, listed_names
from gateway.agents.prompt import transcript
from gateway.agents.spool import Intake
from gateway.agents.text_chunks import TextChunk
from gateway.agents.toolsets import CallTool, Toolbox, UnknownTool
from gateway.agents.translate import AskedToolCall, Translator
from gateway.config.tables import Config
from gateway.errors import GatewayError, OptionRefused
from gateway.events import facts as ev
from gateway.events.fold import ChatState
from gateway.files.attached import Shown
from gateway.principal import Account
from gateway.stores.contract import SessionRecord
from gateway.workers.spawner import Worker
from worker import acp, foreign
from worker.acp import AUTH_REQUIRED
from worker.foreign import Count, Name, OnOdd, clamped

log = logging.getLogger(__name__)

TOOL_CALLS: Final = 8
"""Calls of the gateway's own tools that one agent may have in flight."""
MODEL_REQUEST_BYTES: Final = 8 * 1024 * 1024
"""A conversation as the built-in agent sends it to the model is at most so long."""
ASK_BYTES: Final = 8 * 1024 * 1024
"""A permission request, with the diff that it is about, is at most so long."""
TITLE_CHARACTERS: Final = 2_000
OPTION_CHARACTERS: Final = 200
OPTIONS: Final = 32
PENDING: Final = 64
"""Permission requests of one agent that wait at once."""
"""A permission request offers at most so many answers; names and title are cut to so many characters."""
REASON_CHARACTERS: Final = 100
"""A reason or code that programs read is cut to so many."""
SESSION_ID_CHARACTERS: Final = 1_024
FAILURE_CHARACTERS: Final = 4_000
"""An agent's own words for a failure are shown up to here."""
WALLET_BYTES: Final = 64 * 1024
OPTION_SECONDS: Final = 15.0
"""How long an agent may take to change an option."""
RESTORE_ROUNDS: Final = 3
CORRECTIONS: Final = 10
"""How often an agent may leave what its operator fixed before it is ended."""
MODEL_ERROR: Final = -32010
"""The JSON-RPC code of a failed model call; `data` carries the slug and whether trying again may help."""


class Owner(Protocol):
    """The session, as its peer sees it."""

    @property
    def record(self) -> SessionRecord:
        """What is stored of it beside its log."""

    @property
    def fold(self) -> ChatState:
        """What its log comes to."""

    @property
    def agent(self) -> Agent:
        """The agent that runs."""

    def on_events(self, events: list[ev.EventData], *, used: ev.OnUsed = ev.ignored) -> None:
        """The agent's updates as events; `used` as `Event.said` has it."""

    @property
    def rules(self) -> Sequence[ev.NamedRule]:
        """The permission rules that hold for it, the operator's and its own."""

    def on_asked(self, asked: ev.PermissionAsked) -> None:
        """The agent asks for permission."""

    def on_ruled(self, asked: ev.PermissionAsked, answered: ev.PermissionAnswered) -> None:
        """The agent asks for permission, and a rule answers."""

    def on_question(self, asked: ev.QuestionAsked) -> None:
        """The agent asks its user something."""

    async def wanted_options(self) -> dict[str, ev.OptionValue]:
        """What the options of its agent are to be, as far as somebody chose."""

    def on_wallet(self, pending: str | None) -> None:
        """The agent prepared a transaction."""

    def refusal(self) -> str | None:
        """Why no more of the agent's output is kept, in words for the user."""

    def is_ahead(self, most_bytes: int) -> bool:
        """Whether so much of what was appended, or too much of all sessions', is not on disk yet."""

    async def written(self) -> None:
        """Waits until what was appended is on disk."""

    def when_written(self, done: Callable[[], None]) -> None:
        """Calls back once what was appended is on disk, though the session may end meanwhile."""

    @property
    def account(self) -> Account:
        """Who pays for what the agent does now."""

    def on_model_called(self, model: str, seconds: float, outcome: ModelResult | ModelError) -> None:
        """A model call on the agent's behalf is over; `model` is empty if the list does not have it."""


class _Option(Struct, rename="camel"):
    option_id: Name
    name: Name = ""
    kind: str = "allow_once"


class _Ask(Struct, rename="camel"):
    options: list[_Option]
    tool_call: AskedToolCall = msgspec.field(default_factory=AskedToolCall)


class _Cancel(Struct, rename="camel"):
    request_id: acp.Id


class _Wallet(Struct):
    transaction: Any = None


class _Forgot(Struct):
    messages: Count


class _Pending(Struct):
    request_id: acp.Id
    options: tuple[ev.PermissionOption, ...]
    always: ev.PermissionRule | None
    kind: str
    answer: str | None = None
    """What the agent is told as soon as the answer is on disk; None: nobody has answered. Empty: no option of
    its says so, and it is told that the question is cancelled.
    """


def _options(options: Sequence[_Option]) -> tuple[ev.PermissionOption, ...]:
    return tuple(
        ev.PermissionOption(
            o.option_id, (o.name or o.option_id)[:OPTION_CHARACTERS], o.kind[:OPTION_CHARACTERS]
        )
        for o in options
    )


class PermissionChoice(Struct, frozen=True):
    """A person's answer: the option, and the rule that it makes."""

    option_id: str
    rule: ev.PermissionRule | None


class _PromptFailure(Struct):
    code: str = "agent_error"
    retryable: bool = False


class AgentPeer:
    """See the module."""

    def __init__(
        self,
        owner: Owner,
        worker: Worker,
        *,
        config: Config,
        broker: Broker,
        tools: Toolbox,
        intake: Intake,
        mcp_servers: Sequence[dict[str, Any]] = (),
        work_dir: str = "",
        on_odd: OnOdd = foreign.ignored,
        greeted: Greeted | None = None,
    ) -> None:
        """`mcp_servers`: those of the gateway's own, for agents that are not asked over the pipe. `work_dir`:
        where the agent's working directory is outside its walls. `on_odd` hears of every value of the agent's
        that was left out. `greeted`: the worker's connection, if it was greeted before there was a session.
        """
        self._owner = owner
        self._broker = broker
        self._model = config.model
        self._tools = tools
        self._mcp_servers = list(mcp_servers)
        self._tool_calls: set[asyncio.Task[None]] = set()
        self._greeted = greeted
        if greeted is not None:
            self.connection = greeted.connection
            self.connection.hand_over(self, on_odd=on_odd, on_texts=self.on_texts)
        else:
            self.connection = AcpConnection(
                worker,
                self,
                line_bytes=config.limits.line_bytes,
                spool_dir=str(config.data_path),
                intake=intake,
                on_odd=on_odd,
                on_texts=self.on_texts,
            )
        self._translator = Translator(self.connection.on_odd, turn_of_call=owner.fold.turn_of_call)
        self.questions = Elicitations(owner, self.connection, self._translator.tool_call_id)
        self._choices = AgentChoices(owner.agent.options, self.connection.on_odd)
        self._corrections = 0
        self._correcting: asyncio.Task[None] | None = None
        self.has_options = False
        """Whether its options are as they were wanted, and followed from now on."""
        self.agent_session_id = ""
        self._initialized = greeted.initialized if greeted is not None else Initialized()
        self._is_replaying = False
        self._needs_transcript = False
        self._pending: dict[str, _Pending] = {}
        self._asked = 0
        self._has_refused = False
        self._cwd = ""
        self._work_dir = work_dir
        self._forgotten = 0
        self._turn_id = ""
        self._model_call: asyncio.Task[None] | None = None
        self._model_request: acp.Id = None

    # -- opening ----------------------------------------------------------------------------------------

    async def open(self, cwd: str) -> str:
        """ACP up to a session (`agent_session_id`); how it came about: new, resumed, loaded, forked or
        transcript.

        Raises AgentError, AgentGone, WireError.
        """
        self._cwd = cwd
        if self._greeted is None:
            meta = offer(self._owner.agent, self._broker, self._model, has_tools=bool(self._tools))
            self._initialized = await greet(self.connection, self._owner.agent, meta)
        params: dict[str, object] = {"cwd": cwd, "mcpServers": self._mcp_servers}
        how = await self._come_back(params)
        if how is None:
            opened = await self.connection.open_session("session/new", params)
            if not isinstance(opened.session_id, str):
                raise AgentGone("The agent opened a session without an id.")
            if len(opened.session_id) > SESSION_ID_CHARACTERS:
                raise AgentGone(f"The agent's session id has more than {SESSION_ID_CHARACTERS} characters.")
            self.agent_session_id = opened.session_id
            self._options(opened)
            self._needs_transcript = self._has_history()
            how = "transcript" if self._needs_transcript else "new"
        await self._restore_options()
        return how

    @property
    def shown(self) -> Shown:
        """What of a message's files the agent can be shown."""
        prompt = self._initialized.prompt
        return Shown(images=prompt.image, texts=prompt.embedded_context)

    @property
    def cwd(self) -> str:
        """The working directory, as the agent sees it."""
        return self._cwd

    @property
    def auth_methods(self) -> tuple[AuthMethod, ...]:
        """The ways to authenticate that the agent offers."""
        return self._initialized.auth_methods or ()

    async def _come_back(self, params: dict[str, object]) -> str | None:
        """Resumes or loads the agent's own session, if there is one and the agent supports it."""
        known = self._owner.record.agent_session_id
        if known is not None and self._owner.fold.is_new_fork:
            return await self._fork(known, params) if self._initialized.can_fork else None
        if known is None or not (self._initialized.can_resume or self._initialized.can_load):
            return None
        method = "session/resume" if self._initialized.can_resume else "session/load"
        self._is_replaying = True
        try:
            opened = await self.connection.open_session(method, {"sessionId": known, **params})
        except AgentError as error:
            log.warning("session %s: %s failed: %s", self._owner.record.key, method, error)
            return None
        finally:
            self._is_replaying = False
        self.agent_session_id = known
        self._options(opened)
        return "resumed" if self._initialized.can_resume else "loaded"

    async def _fork(self, known: str, params: dict[str, object]) -> str | None:
        """Makes a session of its own of the one that this was forked from: the agent finds it in HOME, which
        came along. None if it cannot.
        """
        self._is_replaying = True
        try:
            opened = await self.connection.open_session("session/fork", {"sessionId": known, **params})
        except AgentError as error:
            log.warning("session %s: session/fork failed: %s", self._owner.record.key, error)
            return None
        finally:
            self._is_replaying = False
        if not isinstance(opened.session_id, str) or not 0 < len(opened.session_id) <= SESSION_ID_CHARACTERS:
            return None
        self.agent_session_id = opened.session_id
        self._options(opened)
        return "forked"

    def _has_history(self) -> bool:
        fold = self._owner.fold
        return any(message.sender == "agent" and not message.text.is_blank for message in fold.messages)

    def _options(self, opened: AgentSession) -> None:
        given: dict[str, Any] = {
            name: value
            for name in ("modes", "config_options", "models")
            if isinstance(value := getattr(opened, name), Raw) and bytes(value) != b"null"
        }
        if given:
            said = ev.AgentOptions(**given)
            self._choices.take(said)
            self._owner.on_events([said])

    @property
    def can_come_back(self) -> bool:
        """Whether the conversation survives the process: kept by the agent, or handed over by the gateway."""
        return self._owner.agent.is_built_in or self._initialized.can_load or self._initialized.can_resume

    def started(self, how: str, milliseconds: int, *, walls: str, network: str) -> ev.AgentStarted:
        """The event that says the agent is ready."""
        info = self._initialized.agent_info
        name = (info.title or info.name) if info is not None else None
        version = info.version if info is not None else None
        return ev.AgentStarted(self._owner.record.agent, name, version, how, milliseconds, walls, network)

    # -- options ----------------------------------------------------------------------------------------

    async def set_option(self, option_id: str, value: ev.OptionValue) -> None:
        """Has the agent change an option. Raises OptionRefused, with the agent's words, AgentGone and
        WireError.
        """
        try:
            async with asyncio.timeout(OPTION_SECONDS):
                has_changed = await self._set_option(option_id, value)
        except AgentError as error:
            said = error.error.message[:FAILURE_CHARACTERS]
            raise OptionRefused(f"The agent did not take this choice: {said}") from None
        except TimeoutError:
            raise OptionRefused(f"The agent did not answer within {OPTION_SECONDS:g} seconds.") from None
        if has_changed and self.has_options:
            self._show_options()

    async def _set_option(self, option_id: str, value: ev.OptionValue) -> bool:
        """Whether that changed the list. Raises AgentError, AgentGone, WireError, OptionRefused."""
        session_id = self.agent_session_id
        match self._choices.source(option_id):
            case "config":
                config = (await self.connection.set_config(session_id, option_id, value)).config_options
                said = ev.AgentOptions(config_options=config)
                if not isinstance(config, Raw) or bytes(config) == b"null":
                    return False
                self._owner.on_events([said])
                return self._choices.take(said)
            case "mode":
                await self.connection.call("session/set_mode", {"sessionId": session_id, "modeId": value})
                self._owner.on_events([ev.AgentOptions(current_mode_id=str(value))])
            case "model":
                await self.connection.call("session/set_model", {"sessionId": session_id, "modelId": value})
            case None:
                names = listed_names(option.option_id for option in self._choices.listed)
                raise OptionRefused(f"The agent has no option {option_id!r}. There are: {names}.")
        return self._choices.has_become(option_id, value)

    def option(self, option_id: str) -> ev.OptionValue | None:
        """The value of an option now; None: there is none."""
        return self._choices.value(option_id)

    async def _restore_options(self) -> None:
        """Makes the agent's options what they are to be. Raises WireError if one that the operator fixed is
        not.
        """
        rules, failed = self._owner.agent.options, dict[str, str]()
        presets = set[str]()
        for _ in range(RESTORE_ROUNDS):  # one option may change what another may be
            todo = {
                name: value
                for name, value in (await self._owner.wanted_options()).items()
                if name not in failed and self._choices.value(name) != value
            }
            if not todo:
                break
            for name, value in todo.items():
                try:
                    await self.set_option(name, value)
                except OptionRefused as error:
                    failed[name] = error.message
                    if value == rules.first(name):  # the operator's, not a person's
                        presets.add(name)
        if (words := self._broken_rule()) is not None:
            raise WireError(words)
        self.has_options = True
        self._show_options()
        for name, words in failed.items():
            if name in presets:
                log.warning("session %s: options.%s: %s", self._owner.record.key, name, words)
            else:
                said = f"Your choice of {name!r} could not be restored. {words}"
                values: dict[str, str | int] = {"option": name, "why": words}
                notice = ev.Notice(f"options.{name}", "warning", "option_refused", said, values=values)
                self._owner.on_events([notice])

    def _broken_rule(self) -> str | None:
        """What the operator fixed and the agent has otherwise, in words; None: nothing."""
        rules = self._owner.agent.options
        for name in rules.binding:
            value = self._choices.value(name)
            if value is None or not rules.allows(name, value):
                agent = self._owner.agent.name
                return (
                    f"The agent's option {name!r} is {value!r}; agents.{agent}.options does not allow that."
                )
        return None

    def _show_options(self) -> None:
        if self._choices.listed:
            self._owner.on_events([ev.SessionOptions(self._choices.listed)])
        if self._broken_rule() is not None and (self._correcting is None or self._correcting.done()):
            self._corrections += 1
            if self._corrections <= CORRECTIONS:
                self._correcting = asyncio.create_task(self._correct(), name="options")

    async def _correct(self) -> None:
        """The agent left what the operator fixed: puts it back."""
        rules = self._owner.agent.options
        for name in rules.binding:
            first, value = rules.first(name), self._choices.value(name)
            if first is not None and (value is None or not rules.allows(name, value)):
                with contextlib.suppress(OptionRefused, AgentGone, WireError):
                    await self.set_option(name, first)

    # -- turns ------------------------------------------------------------------------------------------

    def transcript_before(self, message_id: str) -> list[bytes]:
        """The conversation before a message, if this worker has not heard it yet."""
        if not self._needs_transcript:
            return []
        self._needs_transcript = False
        return transcript(self._owner.fold, before_message_id=message_id)

    async def prompt(self, turn_id: str, blocks: list[dict[str, Any]]) -> ev.TurnEnded:
        """Runs one prompt turn; the events of the agent carry `turn_id`. Raises AgentGone, WireError."""
        self._turn_id = turn_id
        self._has_refused = False
        self._translator.begin_turn(turn_id)
        try:
            prompted = await self.connection.prompt(self.agent_session_id, blocks)
        except AgentError as error:
            return ev.TurnEnded(turn_id, "error", self._failure(error))
        return ev.TurnEnded(turn_id, prompted.stop_reason[:REASON_CHARACTERS])

    def _failure(self, error: AgentError) -> ev.Failure:
        """The agent's error as the user reads it."""
        data = foreign.fitted(error.error.data, _PromptFailure) or _PromptFailure()
        words = error.error.message[:FAILURE_CHARACTERS] or "The agent failed without saying why."
        if error.error.code == AUTH_REQUIRED and not self._owner.agent.is_built_in:
            return ev.Failure("auth_required", self.wants_credentials(words))
        return ev.Failure(data.code[:REASON_CHARACTERS], words, data.retryable)

    def wants_credentials(self, said: str) -> str:
        """What the agent said of the credentials that it wants, and what to do."""
        said = said if said.endswith((".", "!", "?")) else f"{said}."
        help_words = agent_help.credentials(self._owner.agent, self.auth_methods)
        return f"The agent wants credentials: {said} {help_words}"

    def cancel(self) -> None:
        """Asks the agent to stop; what it asked is answered with `cancelled`."""
        self._cancel_permissions()
        self.questions.cancel()
        self.connection.cancel(self.agent_session_id)

    def end_turn(self, *, keeps_questions: bool = False) -> None:
        """The turn is over: nothing that it asked for goes on. `keeps_questions`: its questions stay open,
        and are answered in the session's next life.
        """
        self._turn_id = ""
        self._cancel_permissions()
        self.questions.cancel(is_kept=keeps_questions)
        if self._model_call is not None:
            self._model_call.cancel()
        for call in self._tool_calls:
            call.cancel()

    def tool_name(self, call_id: str) -> str:
        """What the agent calls the tool of a call of this turn; empty if it does not say."""
        return self._translator.tool_name(call_id)

    # -- permissions ------------------------------------------------------------------------------------

    @property
    def is_asking(self) -> bool:
        """Whether a permission request or a question waits."""
        return bool(self._pending) or bool(self.questions)

    def choose(self, permission_id: str, option_id: str) -> PermissionChoice | None:
        """Takes a person's answer, which no second one can change; None if no such request waits for one, or
        it does not offer this. The agent hears it with `answer`.
        """
        pending = self._pending.get(permission_id)
        if pending is None or pending.answer is not None:
            return None
        chosen = next((option for option in pending.options if option.option_id == option_id), None)
        if chosen is None:
            return None
        is_mode = pending.kind == "switch_mode"  # there, each option is another answer
        is_for_always = chosen.kind.endswith("_always") and not is_mode
        pending.answer = permission_rules.once(chosen, pending.options) if is_for_always else option_id
        rule = pending.always if is_for_always else None
        if rule is not None and chosen.kind.startswith("reject"):
            rule = msgspec.structs.replace(rule, action="deny")
        return PermissionChoice(option_id, rule)

    def unchoose(self, permission_id: str) -> None:
        """The answer could not be kept: the request waits again."""
        if (pending := self._pending.get(permission_id)) is not None:
            pending.answer = None

    def answer(self, permission_id: str) -> bool:
        """Hands the answer that was chosen to the agent; False if the request was cancelled meanwhile."""
        pending = self._pending.pop(permission_id, None)
        if pending is None:
            return False
        outcome = {"outcome": "selected", "optionId": pending.answer}
        if not pending.answer:
            outcome = {"outcome": "cancelled"}
        self.connection.respond(pending.request_id, {"outcome": outcome})
        return True

    def _cancel_permissions(self) -> None:
        answered: list[ev.EventData] = []
        for permission_id, pending in self._pending.items():
            self.connection.respond(pending.request_id, {"outcome": {"outcome": "cancelled"}})
            answered.append(ev.PermissionAnswered(permission_id, "cancelled"))
        self._pending.clear()
        if answered:
            self._owner.on_events(answered)

    def _ask(self, message: acp.Envelope) -> None:
        try:
            ask = self._parsed(message, _Ask, limit_bytes=ASK_BYTES)
        except msgspec.DecodeError as error:
            self._refuse_to_ask(message, str(error))
            return
        if not self._turn_id or not ask.options:
            self.connection.respond(message.id_or_none, {"outcome": {"outcome": "cancelled"}})
            return
        if (words := self._why_not_asked(ask.options)) is not None:
            self._refuse_to_ask(message, words)
            return
        self._asked += 1
        permission_id = f"{self._turn_id}.p{self._asked}"
        claim, other_call = self._claim(ask.tool_call), self._translator.sole_call(ask.tool_call)
        call_id = self._show_asked(ask.tool_call, permission_id)
        if other_call is not None:  # then a rule may deny it; only a person allows it
            call_id = self._translator.tool_call_id(other_call)
            claim = self._claim(AskedToolCall(tool_call_id=other_call))
            claim = msgspec.structs.replace(claim, is_clear=False)
        title = ask.tool_call.title or self._title_of(call_id) or "The agent asks for permission."
        decided = permission_rules.decide(claim, self._owner.rules, cwd=self._cwd)
        always = self._always(claim, decided)
        asked = ev.PermissionAsked(
            *(permission_id, self._turn_id, title[:TITLE_CHARACTERS], _options(ask.options), call_id),
            always=UNSET if always is None else always,
        )
        self._pending[permission_id] = _Pending(message.id_or_none, asked.options, always, claim.kind)
        option_id = None
        if decided is not None:
            option_id = permission_rules.answer_of(decided.rule.action, asked.options)
        if decided is None or option_id is None:
            self._owner.on_asked(asked)
        else:
            self._answer_by_rule(asked, decided, option_id)

    def _answer_by_rule(self, asked: ev.PermissionAsked, decided: ev.NamedRule, option_id: str) -> None:
        """The agent hears the answer when that and the rule's name are on disk."""
        permission_id = asked.permission_id
        self._pending[permission_id].answer = option_id
        outcome: Literal["selected", "cancelled"] = "selected" if option_id else "cancelled"
        answered = ev.PermissionAnswered(permission_id, outcome, option_id or None, rule=decided)
        self._owner.on_ruled(asked, answered)
        self._owner.when_written(lambda: self._tell(permission_id))

    def _tell(self, permission_id: str) -> None:
        self.answer(permission_id)

    def _claim(self, call: AskedToolCall) -> Claim:
        known = self._owner.agent.known
        return self._translator.claim(
            call,
            cwd=self._cwd,
            agent=known.name if known is not None else "",
            has_link=lambda path: has_link(path, inside=self._cwd, outside=self._work_dir),
        )

    def _why_not_asked(self, options: Sequence[_Option]) -> str | None:
        """Why a request cannot be shown to anyone, in words; None: it can."""
        if len(options) > OPTIONS or len(self._pending) >= PENDING:
            return f"A request offers at most {OPTIONS} options, and at most {PENDING} requests wait at once."
        if len({option.option_id for option in options}) < len(options):
            return "Two options of a request have the same id: nobody could tell which one was meant."
        return None

    def _refuse_to_ask(self, message: acp.Envelope, words: str) -> None:
        """Tells the agent why nobody was asked, and the user, once in a turn."""
        self.connection.respond_error(message.id_or_none, acp.INVALID_PARAMS, words)
        if self._turn_id and not self._has_refused:
            self._has_refused = True
            why = words[:FAILURE_CHARACTERS]
            shown = f"The agent asked for permission in a way that cannot be shown, and was refused. {why}"
            notice = ev.Notice(
                f"{self._turn_id}.refused", "warning", "permission_refused", shown, values={"why": why}
            )
            self._owner.on_events([notice])

    def _always(self, claim: Claim, decided: ev.NamedRule | None) -> ev.PermissionRule | None:
        """The rule that an answer for always would make; None if it would change nothing, as the operator
        wants a person to be asked each time.
        """
        has_room = len(self._owner.fold.rules) < permission_rules.SESSION_RULES
        is_asked_always = decided is not None and decided.rule.action == "ask"
        return permission_rules.rule_for(claim) if has_room and not is_asked_always else None

    def _show_asked(self, call: AskedToolCall, permission_id: str) -> str | None:
        """Puts what the request says of its tool call into the log, so that nobody answers blind; its id."""
        if call.title is not None:
            call = msgspec.structs.replace(call, title=call.title[:TITLE_CHARACTERS])
        shown = self._translator.asked(call, stand_in=permission_id)
        if shown is not None:
            self._owner.on_events([shown])
            return shown.tool_call_id
        return self._translator.tool_call_id(call.tool_call_id) if call.tool_call_id else None

    def _title_of(self, call_id: str | None) -> str | None:
        return None if call_id is None else self._owner.fold.title_of_call(call_id)

    # -- what the agent says ----------------------------------------------------------------------------

    def _parsed(
        self, message: acp.Envelope, kind: type[acp.T], *, limit_bytes: int = acp.PARSE_BYTES
    ) -> acp.T:
        """Raises msgspec.DecodeError, naming the required member that is missing or odd."""
        return acp.parse(message.params, kind, self.connection.on_odd, limit_bytes=limit_bytes)

    def on_updates(self, updates: Sequence[Raw]) -> None:
        if self._is_replaying:  # what was said before is in the log: nothing of it is remembered here
            events = Translator(self.connection.on_odd).events(updates)
            events = [event for event in events if isinstance(event, ev.AgentCommands | ev.AgentOptions)]
        else:
            events = self._translator.events(updates)
        if events:
            self._owner.on_events(events)
            taken = [self._choices.take(event) for event in events if isinstance(event, ev.AgentOptions)]
            if any(taken) and self.has_options:
                self._show_options()

    def on_texts(self, chunks: Sequence[TextChunk]) -> None:
        """The updates of a read in which there is nothing but text."""
        if not self._is_replaying and (events := self._translator.texts(chunks)):
            self._owner.on_events(events)

    def on_long_update(self, update: Raw, used: Callable[[int], None]) -> Iterator[None]:
        if self._is_replaying:
            return
        for events, done in self._translator.long(update):
            self._owner.on_events(events, used=used)
            used(done)
            yield

    def refusal(self) -> str | None:
        if self._corrections > CORRECTIONS:
            return self._broken_rule() or self._owner.refusal()
        return self._owner.refusal()

    def is_ahead(self, most_bytes: int) -> bool:
        return self._owner.is_ahead(most_bytes)

    async def written(self) -> None:
        await self._owner.written()

    def when_written(self, done: Callable[[], None]) -> None:
        self._owner.when_written(done)

    def on_request(self, message: acp.Envelope) -> bool:
        match message.method:
            case "session/request_permission":
                self._ask(message)
            case "elicitation/create":
                self.questions.ask(message, self._turn_id)
            case "_model/stream" if self._owner.agent.is_built_in:
                self._call_model(message)
            case "_tools/list" if self._has_tools:
                self.connection.respond(message.id_or_none, {"tools": self._tools.described()})
            case "_tools/call" if self._has_tools:
                self._call_tool(message)
            case _:
                return False
        return True

    def on_notification(self, message: acp.Envelope) -> None:
        handlers: dict[str | None, Callable[[acp.Envelope], None]] = {
            "_model/cancel": self._cancel_model,
            "_session/wallet": self._wallet,
            "_session/forgot": self._forgot,
            "elicitation/complete": self.questions.on_completed,
            "$/cancel_request": self.questions.on_taken_back,
        }
        handler = handlers.get(message.method)
        if handler is None:
            return
        try:
            handler(message)
        except msgspec.DecodeError as error:
            log.info("session %s: %s is malformed: %s", self._owner.record.key, message.method, error)

    def _wallet(self, message: acp.Envelope) -> None:
        transaction = self._parsed(message, _Wallet, limit_bytes=2 * WALLET_BYTES).transaction
        encoded = msgspec.json.encode(transaction, order="sorted").decode()
        if len(encoded) > WALLET_BYTES:
            raise msgspec.DecodeError(f"A transaction is at most {WALLET_BYTES} bytes long.")
        self._owner.on_wallet(None if transaction is None else encoded)

    def _forgot(self, message: acp.Envelope) -> None:
        count = self._parsed(message, _Forgot).messages
        if self._turn_id and count > 0:
            self._forgotten = clamped(self._forgotten + count)
            words = (
                "The conversation is longer than the model reads at once: "
                f"its oldest {self._forgotten} messages are left out from here on."
            )
            notice = ev.Notice(
                f"{self._turn_id}.forgot",
                "info",
                "context_cut",
                words,
                values={"messages": self._forgotten},
            )
            self._owner.on_events([notice])

    # -- the gateway's own tools ------------------------------------------------------------------------

    @property
    def _has_tools(self) -> bool:
        return self._owner.agent.is_built_in and bool(self._tools)

    def _call_tool(self, message: acp.Envelope) -> None:
        if not self._turn_id or len(self._tool_calls) >= TOOL_CALLS:
            words = "Tools are called during a turn." if not self._turn_id else "Too many calls at once."
            self.connection.respond_error(message.id_or_none, acp.INVALID_REQUEST, words)
            return
        try:
            request = self._parsed(message, CallTool)
        except msgspec.DecodeError as error:
            self.connection.respond_error(message.id_or_none, acp.INVALID_PARAMS, str(error))
            return
        call = asyncio.create_task(
            self._run_tool(message.id_or_none, request), name=f"tool {self._owner.record.key}"
        )
        self._tool_calls.add(call)
        call.add_done_callback(self._tool_calls.discard)

    async def _run_tool(self, request_id: acp.Id, request: CallTool) -> None:
        try:
            result = await self._tools.call(request)
        except UnknownTool as error:
            self.connection.respond_error(request_id, acp.INVALID_PARAMS, str(error))
        except GatewayError as error:
            self.connection.respond_error(request_id, acp.INTERNAL_ERROR, error.message)
        except Exception:
            log.exception("session %s: the tool %.80r failed by a bug", self._owner.record.key, request.name)
            self.connection.respond_error(request_id, acp.INTERNAL_ERROR, "The tool failed.")
        else:
            self.connection.respond(request_id, result)

    # -- the broker -------------------------------------------------------------------------------------

    def _call_model(self, message: acp.Envelope) -> None:
        if self._model_call is not None and not self._model_call.done():
            self._fail_model(message.id_or_none, ModelError("model_busy", "One model call at a time."))
            return
        try:
            request = self._parsed(message, ModelRequest, limit_bytes=MODEL_REQUEST_BYTES)
        except msgspec.DecodeError as error:
            self.connection.respond_error(message.id_or_none, acp.INVALID_PARAMS, str(error))
            return
        self._model_request = message.id_or_none
        self._model_call = asyncio.create_task(
            self._stream_model(message.id_or_none, request), name=f"model {self._owner.record.key}"
        )

    async def _stream_model(self, request_id: acp.Id, request: ModelRequest) -> None:
        async def on_delta(delta: ModelDelta) -> None:
            self.connection.notify("_model/delta", {"requestId": request_id} | msgspec.to_builtins(delta))
            await self.connection.drained()

        began = time.monotonic()

        def over(outcome: ModelResult | ModelError) -> None:
            wanted = request.model or self._broker.models[0]
            known = wanted if wanted in self._broker.models else ""
            self._owner.on_model_called(known, time.monotonic() - began, outcome)
            if isinstance(outcome, ModelError):
                self._fail_model(request_id, outcome)

        try:
            result = await self._broker.stream(request, on_delta, account=self._owner.account)
        except ModelError as error:
            over(error)
            return
        except asyncio.CancelledError:
            over(ModelError("cancelled", "The model call was cancelled."))
            raise
        except Exception:
            log.exception("session %s: a model call failed by a bug", self._owner.record.key)
            over(ModelError("model_failed", "The model call failed inside the gateway."))
            return
        over(result)
        figures = {"inputTokens": result.input_tokens, "outputTokens": result.output_tokens}
        usage = {name: count for name, count in figures.items() if count is not None}
        self.connection.respond(request_id, {"finishReason": result.finish_reason, "usage": usage})

    def _fail_model(self, request_id: acp.Id, error: ModelError) -> None:
        data = {"code": error.code, "retryable": error.retryable}
        self.connection.respond_error(request_id, MODEL_ERROR, error.message, data)

    def _cancel_model(self, message: acp.Envelope) -> None:
        cancelled = self._parsed(message, _Cancel).request_id
        if self._model_call is not None and cancelled == self._model_request:
            self._model_call.cancel()
