"""An ACP agent that turns on its host: `agent.py` answers like any agent, then does what the prompt names.

Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable


def say(message: dict[str, object]) -> None:
    os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def update(session_id: str, text: str) -> None:
    content = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    say({"method": "session/update", "params": {"sessionId": session_id, "update": content}})


def fork_bomb() -> None:
    while True:
        try:
            if os.fork() == 0:
                continue
        except OSError:
            time.sleep(0.01)


def memory_bomb() -> None:
    held = []
    while True:
        try:
            held.append(bytearray(1 << 22))
        except MemoryError:
            if os.fork() == 0:
                held.clear()


def descriptor_bomb() -> None:
    while True:
        try:
            os.pipe()
        except OSError:
            time.sleep(0.01)


def disk_filler() -> None:
    number = 0
    while True:
        number += 1
        with open(f"filler-{number}", "wb") as file:
            file.write(bytes(1 << 20) * 8)


def flood() -> None:
    line = b"x\n" * 32_768
    while True:
        os.write(1, line)


def flood_of_errors() -> None:
    while True:
        os.write(2, b"noise " * 10_000)


def spin() -> None:
    for _ in range(3):
        os.fork()
    while True:
        pass


def escape() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for fd in range(3):
                os.close(fd)
            time.sleep(600)
        os._exit(0)
    os.wait()
    os._exit(1)


def play_dead() -> None:
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    os.kill(os.getpid(), signal.SIGSTOP)


def close_stdout() -> None:
    os.close(1)
    time.sleep(600)


def deep_json() -> None:
    os.write(
        1, b'{"jsonrpc":"2.0","method":"session/update","params":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n"
    )
    os.write(1, b'{"jsonrpc":"2.0","id":1,"result":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}\n")


def impersonate() -> None:
    for session_id in ("victim", "neighbour", "s-1", "../victim", "sess_0"):
        update(session_id, "CROSSED")
        say(
            {
                "method": "session/request_permission",
                "id": f"p-{session_id}",
                "params": {"sessionId": session_id},
            }
        )


ACTS: dict[str, Callable[[], None]] = {
    name: act
    for name, act in globals().items()
    if callable(act) and name not in ("say", "update", "Callable")
}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        method, request_id = message.get("method"), message.get("id")
        if method == "initialize":
            say({"id": request_id, "result": {"protocolVersion": 1}})
        elif method == "session/new":
            say({"id": request_id, "result": {"sessionId": "mine"}})
        elif method == "session/prompt":
            act = message["params"]["prompt"][-1]["text"].strip()
            update("mine", f"doing {act}")
            if act in ACTS:
                ACTS[act]()
            say({"id": request_id, "result": {"stopReason": "end_turn"}})
        elif request_id is not None and method:
            say({"id": request_id, "error": {"code": -32601, "message": "no"}})


main()
