"""An ACP agent whose weapon is its files: a prompt names what it makes, with a number.

Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time


def say(message: dict[str, object]) -> None:
    os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def nest(depth: int) -> None:
    os.chdir(os.environ["HOME"])
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")


def sparse(megabytes: int) -> None:
    for number in range(megabytes // 900):
        with open(f"hole-{number}", "wb") as file:
            file.truncate(900 << 20)


def many(files: int) -> None:
    os.mkdir("many")
    for number in range(files):
        os.mkdir(f"many/{number}")


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        method, request_id = message.get("method"), message.get("id")
        if method == "initialize":
            say({"id": request_id, "result": {"protocolVersion": 1}})
        elif method == "session/new":
            say({"id": request_id, "result": {"sessionId": "mine"}})
        elif method == "session/prompt":
            act, number, *rest = message["params"]["prompt"][-1]["text"].split()
            {"nest": nest, "sparse": sparse, "many": many}[act](int(number))
            if rest == ["wait"]:
                time.sleep(60)
            say({"id": request_id, "result": {"stopReason": "end_turn"}})
        elif request_id is not None and method:
            say({"id": request_id, "error": {"code": -32601, "message": "no"}})


main()
