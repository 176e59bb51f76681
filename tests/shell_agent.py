"""An ACP agent that runs each prompt as a shell command in its working directory and says what it printed.

A test gives `COMMAND` to an agent of its configuration.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

PROGRAM: Final = """
import json, subprocess, sys
def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + chr(10)); sys.stdout.flush()
cwd = "."
for line in sys.stdin:
    call = json.loads(line)
    method, params, result = call.get("method"), call.get("params", {}), {}
    if method == "initialize":
        result = {"protocolVersion": 1, "agentCapabilities": {}}
    elif method == "session/new":
        cwd, result = params["cwd"], {"sessionId": "one"}
    elif method == "session/prompt":
        text = "".join(part.get("text", "") for part in params["prompt"])
        done = subprocess.run(["sh", "-c", text], cwd=cwd, capture_output=True, text=True)
        said = {"sessionUpdate": "agent_message_chunk",
                "content": {"type": "text", "text": done.stdout + done.stderr or "done"}}
        send({"method": "session/update", "params": {"sessionId": "one", "update": said}})
        result = {"stopReason": "end_turn"}
    if "id" in call:
        send({"id": call["id"], "result": result})
"""


def toml(name: str = "shell", **settings: Any) -> str:
    """The table of such an agent."""
    argv = [sys.executable, "-I", "-S", "-c", PROGRAM]
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"command": argv, **settings}.items()]
    return "\n".join((f"[agents.{name}]", *lines, ""))
