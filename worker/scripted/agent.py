"""A scripted ACP agent for tests: `python -m worker.scripted SCENARIO.json` plays a scenario.

A scenario is a JSON object; everything in it is optional:

    about         one sentence
    start         steps played before anything is read
    initialize, new, load, resume, fork, authenticate
                  {steps: […], result: {…}, fail: {code, message, data}}: how that request is answered;
                  `steps` are played first (a replayed history is `update` steps of `load`), `result` is laid
                  over the default. `load`, `resume`, `fork` and `authenticate` are unknown unless they are
                  given.
    turns         a list of lists of steps, one list a prompt
    keeps_options false: `session/set_mode`, `session/set_model` and `session/set_config_option` are unknown;
                  else they change what the result of `new` has of `modes`, `models` and `configOptions`
    locked        true: sessions are refused (-32000) until `authenticate` was answered with a result
    repeat        true: begin again after the last turn; else a further prompt is an error

A step is an object with one key:

    expect        "text" | {contains} | {matches: regex}: the prompt's text, else the prompt fails
    say, think    "text" | {text, chunks: […], times, delay_ms}; $PROMPT, $CONTEXT (what came with it
                  unseen), $N (counts `times`) and $OPTIONS (the values of its options) are filled in
    tool          {title, kind, input, output, status}: a call and its end
    plan          ["step", …] worked through | [{content, priority, status}, …] shown once
    ask           {title, toolCall, options, then: {OPTION_ID | "cancelled": steps}}; without `then` it says
                  the choice
    ask_question  {message, requestedSchema | mode: "url", url, elicitationId, then: {"accept" | "decline" |
                  "cancel": steps}}; without `then` it says the answer
    update        an update object of any kind         notify   {method, params}
    raw           a line as it is                      request  {method, params}: says what was answered
    sleep         milliseconds                         hang     true: waits for ever, or for a cancel
    garbage       how many times three lines that are no messages are printed
    oversize      bytes | {bytes, newline}             stderr   "text" | bytes
    crash         exit code | "SIGKILL"                spawn    a command left running in a session of its own
    run           "command" for the shell, $PROMPT filled in: says what it prints
    close_stdout  true                                 stop_self  true (SIGSTOP)
    eat           bytes of memory that it holds from now on, in place of those before
    ignore        "cancel" (this turn) | "eof" | "sigterm"; "ignore_cancel": true is the same as the first
    fail          {code, message, data}: the answer    end      stop reason; without one: end_turn

Guarantees: steps are played in order, what they print has left before a crash, and a scenario with a mistake
ends the process at once with exit code 2 and the reason on stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

import msgspec

from worker import acp
from worker.agent.conversation import read_prompt
from worker.agent.loop import Cancelled, Loop, RequestFailed, Task
from worker.scripted.steps import STEPS, PlayEnded, Scene, Step

BAD_SCENARIO: Final = 2


class ScriptedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one request is answered."""

    steps: list[Step] = []
    result: dict[str, Any] = {}
    fail: acp.RpcError | None = None


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole play."""

    about: str = ""
    start: list[Step] = []
    initialize: ScriptedAnswer = ScriptedAnswer()
    new: ScriptedAnswer = ScriptedAnswer()
    load: ScriptedAnswer | None = None
    resume: ScriptedAnswer | None = None
    fork: ScriptedAnswer | None = None
    authenticate: ScriptedAnswer | None = None
    turns: list[list[Step]] = []
    keeps_options: bool = True
    locked: bool = False
    repeat: bool = False


class Player:
    """The ACP side of the scripted agent."""

    def __init__(self, loop: Loop, scenario: Scenario) -> None:
        self._loop = loop
        self._scenario = scenario
        self._prompts = 0
        self._options = OwnOptions(scenario.new.result)
        self._is_locked = scenario.locked
        self._scene: Scene | None = None
        self._backlog: list[acp.Envelope] | None = []
        self._answers = {
            "initialize": scenario.initialize,
            "session/new": scenario.new,
            "session/load": scenario.load,
            "session/resume": scenario.resume,
            "session/fork": scenario.fork,
            "authenticate": scenario.authenticate,
        }

    def start(self) -> None:
        Task(self._start()).step()

    def on_message(self, message: acp.Envelope) -> None:
        if self._backlog is not None:
            self._backlog.append(message)
        elif message.is_request:
            self._on_request(message)
        elif message.method == "session/cancel" and (scene := self._scene) and not scene.ignores_cancel:
            if scene.task is not None:
                scene.task.cancel()

    async def _start(self) -> None:
        await Scene(self._loop, "").play(self._scenario.start)
        backlog, self._backlog = self._backlog or [], None
        for message in backlog:
            self.on_message(message)

    def _on_request(self, message: acp.Envelope) -> None:
        params = acp.parse(message.params, dict[str, Any])
        request_id = None if isinstance(message.id, msgspec.UnsetType) else message.id
        answer = self._answers.get(message.method or "")
        if message.method == "session/prompt":
            prompt = read_prompt(params.get("prompt", []))
            scene = self._scene = Scene(self._loop, str(params.get("sessionId")), prompt.text, prompt.context)
            scene.options = self._options.values
            scene.task = Task(self._reply(request_id, scene, self._turn(scene)))
            scene.task.step()
        elif self._is_locked and (message.method or "").startswith("session/"):
            self._loop.fail(request_id, acp.AUTH_REQUIRED, "Authentication required")
        elif message.method in self._options.known and self._scenario.keeps_options:
            self._set(request_id, message.method or "", params)
        elif answer is None:
            self._loop.fail(request_id, acp.METHOD_NOT_FOUND, f"Unknown method {message.method}.")
        else:
            session_id = str(params.get("sessionId") or "scripted-" + os.urandom(4).hex())
            scene = Scene(self._loop, session_id)
            scene.unlocks = message.method == "authenticate"
            result = _default(message.method or "", session_id, self._scenario) | answer.result
            Task(self._reply(request_id, scene, _answer(scene, answer, result))).step()

    def _set(self, request_id: acp.Id, method: str, params: dict[str, Any]) -> None:
        try:
            self._loop.respond(request_id, self._options.set(method, params))
        except LookupError:
            self._loop.fail(request_id, acp.INVALID_PARAMS, "There is no such value.")

    async def _reply(self, request_id: acp.Id, scene: Scene, answering: Awaitable[object]) -> None:
        try:
            result = await answering
        except PlayEnded as ended:
            result = {"stopReason": str(ended)}
        except Cancelled:
            result = {"stopReason": "cancelled"}
        except RequestFailed as error:
            self._loop.fail(request_id, error.code, error.message, error.data)
            return
        self._is_locked = self._is_locked and not scene.unlocks
        self._loop.respond(request_id, result)

    async def _turn(self, scene: Scene) -> dict[str, Any]:
        turns = self._scenario.turns
        at = self._prompts % len(turns) if self._scenario.repeat and turns else self._prompts
        self._prompts += 1
        if at >= len(turns):
            raise RequestFailed(acp.INTERNAL_ERROR, "The scenario has no more turns.")
        await scene.play(turns[at])
        return {"stopReason": "end_turn"}


async def _answer(scene: Scene, answer: ScriptedAnswer, result: dict[str, Any]) -> dict[str, Any]:
    await scene.play(answer.steps)
    if answer.fail is not None:
        raise RequestFailed(answer.fail.code, answer.fail.message, answer.fail.data)
    return result


class OwnOptions:
    """The modes, models and configuration options that the result of `session/new` has."""

    def __init__(self, result: dict[str, Any]) -> None:
        self._modes, self._models = result.get("modes"), result.get("models")
        self._configs: list[dict[str, Any]] = result.get("configOptions") or []
        requests = {
            "session/set_mode": self._modes,
            "session/set_model": self._models,
            "session/set_config_option": self._configs,
        }
        self.known = frozenset(name for name, has in requests.items() if has)

    @property
    def values(self) -> dict[str, Any]:
        """What each is now."""
        values = {config["id"]: config["currentValue"] for config in self._configs}
        if self._models:
            values["model"] = self._models["currentModelId"]
        return values | ({"mode": self._modes["currentModeId"]} if self._modes else {})

    def set(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The answer to one of the requests. Raises LookupError."""
        if method == "session/set_config_option":
            config = next((one for one in self._configs if one["id"] == params["configId"]), None)
            if config is None or not _has(config.get("options"), "value", params["value"]):
                raise LookupError
            config["currentValue"] = params["value"]
            return {"configOptions": self._configs}
        kind = "Mode" if method == "session/set_mode" else "Model"
        group = self._modes if kind == "Mode" else self._models
        name = "id" if kind == "Mode" else "modelId"
        value = params["modeId" if kind == "Mode" else "modelId"]
        if group is None or not _has(group[f"available{kind}s"], name, value):
            raise LookupError
        group[f"current{kind}Id"] = value
        return {}


def _has(options: list[dict[str, Any]] | None, name: str, value: object) -> bool:
    return isinstance(value, bool) if options is None else any(one.get(name) == value for one in options)


def _default(method: str, session_id: str, scenario: Scenario) -> dict[str, Any]:
    if method == "session/fork":
        return {"sessionId": f"fork-of-{session_id}"}
    if method == "session/new":
        return {"sessionId": session_id}
    if method != "initialize":
        return {}
    capabilities: dict[str, Any] = {"loadSession": scenario.load is not None}
    known = {"resume": scenario.resume, "fork": scenario.fork}
    given: dict[str, Any] = {name: {} for name, answer in known.items() if answer is not None}
    if given:
        capabilities["sessionCapabilities"] = given
    info = {"name": "scripted", "version": "1"}
    return {
        "protocolVersion": acp.PROTOCOL_VERSION,
        "agentCapabilities": capabilities,
        "authMethods": [],
        "agentInfo": info,
    }


def load(path: Path) -> Scenario:
    """Reads a scenario; raises ValueError (msgspec's errors are ValueErrors) naming the mistake."""
    scenario = msgspec.json.decode(path.read_bytes(), type=Scenario)
    answers = (
        *(scenario.initialize, scenario.new, scenario.load, scenario.resume),
        *(scenario.fork, scenario.authenticate),
    )
    lists = [scenario.start, *scenario.turns, *(answer.steps for answer in answers if answer is not None)]
    for steps in lists:
        _check(steps)
    return scenario


def _check(steps: list[Step]) -> None:
    for step in steps:
        name = next(iter(step), None)
        if len(step) != 1 or name not in STEPS:
            raise ValueError(f"A step is one of {', '.join(STEPS)}, not {step}.")
        if name in ("ask", "ask_question"):
            for branch in step[name].get("then", {}).values():
                _check(branch)


def main(arguments: list[str]) -> int:
    """Plays the scenario that the only argument names; returns the exit code."""
    try:
        [path] = arguments
        scenario = load(Path(path))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"usage: python -m worker.scripted SCENARIO.json: {error}\n")
        return BAD_SCENARIO
    loop = Loop(0, 1)
    player = Player(loop, scenario)
    player.start()
    loop.run(player)
    return 0
