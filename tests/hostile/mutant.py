"""An ACP agent that says what a plan tells it to: `python mutant.py PLAN.json`. It needs nothing but Python.

A plan is `{"answers": {METHOD: LINE}, "turns": [[LINE, …], …]}`, each line in base64: how a request is
answered, if not in the usual way, and what each turn prints before its answer.
"""

import base64
import json
import sys

USUAL = {
    "initialize": {"protocolVersion": 1, "agentCapabilities": {}, "authMethods": []},
    "session/new": {"sessionId": "mutant"},
    "session/prompt": {"stopReason": "end_turn"},
}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    turns = iter(plan["turns"])
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "method" not in message or "id" not in message:
            continue
        method = message["method"]
        if method == "session/prompt":
            for said in next(turns, []):
                write(base64.b64decode(said))
        if method in plan["answers"]:
            write(base64.b64decode(plan["answers"][method]))
        else:
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": USUAL.get(method, {})}
            write(json.dumps(answer).encode())


def write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
