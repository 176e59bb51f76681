"""What the scripted agent can do, step by step; the format is described in `worker.scripted`.

Guarantees: what a step prints has left the process before a crash; a step that waits can be cancelled.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from worker import acp
from worker.agent.loop import Loop, RequestFailed, Task, Wait
from worker.agent.updates import PERMISSION_OPTIONS, Updates, new_call_id, text_content

GARBAGE: Final = b'npm WARN this is no JSON\n["JSON, but no message"]\n\xff\xfe\x00 no UTF-8\n'

Step = dict[str, Any]
EATEN: Final[list[bytes]] = []
"""What the step `eat` holds."""


class Speech(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `say` and `think` take."""

    text: str | None = None
    chunks: list[str] = []
    times: int = 1
    delay_ms: float = 0


class PlayEnded(Exception):
    """The step `end`."""


class Scene:
    """One request being answered: where its steps show, and what the prompt said."""

    def __init__(self, loop: Loop, session_id: str, prompt: str = "", context: str = "") -> None:
        self.loop = loop
        self.updates = Updates(loop, session_id)
        self.session_id = session_id
        self.prompt = prompt
        self.context = context
        self.ignores_cancel = False
        self.unlocks = False
        self.options: dict[str, Any] = {}
        self.task: Task | None = None

    async def play(self, steps: list[Step]) -> None:
        for step in steps:
            [(name, value)] = step.items()
            await STEPS[name](self, value)


async def _expect(scene: Scene, value: Any) -> None:
    match value:
        case {"contains": str() as part}:
            fits = part in scene.prompt
        case {"matches": str() as pattern}:
            fits = re.search(pattern, scene.prompt) is not None
        case _:
            fits = value == scene.prompt
    if not fits:
        raise RequestFailed(acp.INVALID_PARAMS, f"Expected the prompt {value!r}, got {scene.prompt!r}.")


async def _speak(scene: Scene, value: Any, show: Callable[[str], None]) -> None:
    speech = Speech(text=value) if isinstance(value, str) else msgspec.convert(value, Speech)
    chunks = [*([] if speech.text is None else [speech.text]), *speech.chunks]
    for number in range(1, speech.times + 1):
        for chunk in chunks:
            options = msgspec.json.encode(scene.options, order="sorted").decode()
            shown = chunk.replace("$PROMPT", scene.prompt).replace("$N", str(number))
            show(shown.replace("$OPTIONS", options).replace("$CONTEXT", scene.context))
            await scene.loop.sleep(speech.delay_ms / 1000)


async def _say(scene: Scene, value: Any) -> None:
    await _speak(scene, value, scene.updates.say)


async def _think(scene: Scene, value: Any) -> None:
    await _speak(scene, value, scene.updates.think)


async def _tool(scene: Scene, value: Any) -> None:
    call_id, title = new_call_id(), value.get("title", "A tool")
    call = {"toolCallId": call_id, "title": title, "kind": value.get("kind", "other")}
    scene.updates.send("tool_call", **call, status="in_progress", rawInput=value.get("input", {}))
    await scene.loop.sleep(0)
    output = value.get("output", "done")
    end = {"status": value.get("status", "completed"), "rawOutput": output, "content": [text_content(output)]}
    scene.updates.send("tool_call_update", toolCallId=call_id, **end)


async def _plan(scene: Scene, value: Any) -> None:
    if value and isinstance(value[0], dict):
        scene.updates.send("plan", entries=[{"priority": "medium", "status": "pending"} | e for e in value])
        return
    for done in range(len(value) + 1):
        states = ["completed"] * done + ["in_progress"] + ["pending"] * len(value)
        scene.updates.plan(list(zip(value, states, strict=False)))
        await scene.loop.sleep(0)


async def _ask(scene: Scene, value: Any) -> None:
    tool_call = {"toolCallId": new_call_id(), "title": value.get("title", "May I?")}
    params = {
        "sessionId": scene.session_id,
        "toolCall": tool_call | value.get("toolCall", {}),
        "options": value.get("options", PERMISSION_OPTIONS),
    }
    result = await scene.loop.call("session/request_permission", params, dict[str, Any])
    outcome = result.get("outcome", {})
    choice = outcome.get("optionId", "cancelled")
    if "then" not in value:
        scene.updates.say(f"chosen: {choice}")
    await scene.play(value.get("then", {}).get(choice, []))


async def _ask_question(scene: Scene, value: Any) -> None:
    params = {"sessionId": scene.session_id, "mode": "form", "message": value.get("message", "What now?")}
    params |= {name: part for name, part in value.items() if name != "then"}
    try:
        result = await scene.loop.call("elicitation/create", params, dict[str, Any])
    except RequestFailed as error:
        scene.updates.say(f"refused: {error.message}")
        return
    action = str(result.get("action"))
    if "then" not in value:
        content = result.get("content")
        scene.updates.say(action if content is None else f"{action} {msgspec.json.encode(content).decode()}")
    await scene.play(value.get("then", {}).get(action, []))


async def _update(scene: Scene, value: Any) -> None:
    scene.loop.notify("session/update", {"sessionId": scene.session_id, "update": value})


async def _notify(scene: Scene, value: Any) -> None:
    scene.loop.notify(value["method"], {"sessionId": scene.session_id} | value.get("params", {}))


async def _request(scene: Scene, value: Any) -> None:
    params = {"sessionId": scene.session_id} | value.get("params", {})
    try:
        result = await scene.loop.call(value["method"], params, dict[str, Any])
    except RequestFailed as error:
        scene.updates.say(f"{value['method']}: {error.code}")
        return
    scene.updates.say(f"{value['method']}: {msgspec.json.encode(result).decode()}")


async def _raw(scene: Scene, value: Any) -> None:
    scene.loop.write(value.encode() + b"\n")


async def _garbage(scene: Scene, value: Any) -> None:
    scene.loop.write(GARBAGE * int(value))


async def _oversize(scene: Scene, value: Any) -> None:
    size, newline = (value["bytes"], value.get("newline", True)) if isinstance(value, dict) else (value, True)
    scene.loop.write(b"x" * size + (b"\n" if newline else b""))
    await scene.loop.sleep(0)


async def _stderr(scene: Scene, value: Any) -> None:
    text = value if isinstance(value, str) else "e" * value
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


async def _sleep(scene: Scene, value: Any) -> None:
    await scene.loop.sleep(value / 1000)


async def _hang(scene: Scene, value: Any) -> None:
    await Wait()


async def _crash(scene: Scene, value: Any) -> None:
    while scene.loop.unsent_bytes:
        await scene.loop.sleep(0.001)
    if isinstance(value, int):
        os._exit(value)
    number = signal.Signals[value]
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a pid namespace survives its own signals


async def _spawn(scene: Scene, value: Any) -> None:
    subprocess.Popen(  # noqa: ASYNC220  the scenario leaves it running on purpose
        value, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


async def _run(scene: Scene, value: Any) -> None:
    command = value.replace("$PROMPT", scene.prompt)
    done = subprocess.run(  # noqa: ASYNC221  it is short, and the next step comes after it
        ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    scene.updates.say((done.stdout + done.stderr).decode("utf-8", "replace"))


async def _eat(scene: Scene, value: Any) -> None:
    EATEN.clear()
    EATEN.append(b"x" * int(value))


async def _close_stdout(scene: Scene, value: Any) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


async def _stop_self(scene: Scene, value: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


async def _ignore(scene: Scene, value: Any) -> None:
    if value == "sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif value == "eof":
        scene.loop.stays_after_eof = True
    else:
        scene.ignores_cancel = True


async def _fail(scene: Scene, value: Any) -> None:
    error = msgspec.convert(value, acp.RpcError)
    raise RequestFailed(error.code, error.message, error.data)


async def _end(scene: Scene, value: Any) -> None:
    raise PlayEnded(value)


STEPS: Final[dict[str, Callable[[Scene, Any], Awaitable[None]]]] = {
    "expect": _expect,
    "say": _say,
    "think": _think,
    "tool": _tool,
    "plan": _plan,
    "ask": _ask,
    "ask_question": _ask_question,
    "update": _update,
    "notify": _notify,
    "request": _request,
    "raw": _raw,
    "garbage": _garbage,
    "oversize": _oversize,
    "stderr": _stderr,
    "sleep": _sleep,
    "hang": _hang,
    "crash": _crash,
    "spawn": _spawn,
    "run": _run,
    "eat": _eat,
    "close_stdout": _close_stdout,
    "stop_self": _stop_self,
    "ignore": _ignore,
    "ignore_cancel": _ignore,
    "fail": _fail,
    "end": _end,
}
