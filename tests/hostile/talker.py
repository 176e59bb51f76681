"""An ACP agent that says too much: the prompt names what (`KIND COUNT MEGABYTES`, and `after` if the
turn is to be over before). `stop` says it as the reason why it stops, `stderr` on that stream. Standard
library only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

MEGABYTE = 1024 * 1024


def write(line: bytes) -> None:
    view = memoryview(line + b"\n")
    while view:
        view = view[os.write(1, view) :]


def respond(request_id: object, result: object) -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}).encode())


def update(body: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":%b}}' % body


def chunk(content: bytes) -> bytes:
    return update(b'{"sessionUpdate":"agent_message_chunk","content":%b}' % content)


def filled(head: bytes, tail: bytes, filling: bytes, size: int) -> bytes:
    return head + filling * (size // len(filling)) + tail


def lines(kind: str, count: int, size: int) -> Iterator[bytes]:
    """What is said, line by line."""
    for number in range(count):
        name = b"%d" % number
        match kind:
            case "text":
                yield chunk(filled(b'{"type":"text","text":"', b'"}', b"word ", size))
            case "emoji":
                yield chunk(filled(b'{"type":"text","text":"', b'"}', "🙂 a".encode(), size))
            case "escapes":
                yield chunk(filled(b'{"type":"text","text":"', b'"}', rb"\n\ud83d\ude42", size))
            case "halves":
                yield chunk(filled(b'{"type":"text","text":"', b'"}', rb"\ud83d ", size))
            case "odd":
                head = (
                    b'{"jsonrpc":"2.0","id":[],"method":"session/update","params":{"sessionId":"s","update":'
                )
                text = b'{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"'
                yield filled(head + text, b'"}}}}', b"word ", size)
            case "numbers":
                head = b'{"sessionUpdate":"tool_call","toolCallId":"n%b","title":"t","rawInput":[' % name
                yield update(filled(head, b"0]}", b"NaN,1e300,", size))
            case "thought":
                content = filled(b'{"type":"text","text":"', b'"}', b"word ", size)
                yield update(b'{"sessionUpdate":"agent_thought_chunk","content":%b}' % content)
            case "words":
                yield chunk(b'{"type":"text","text":"w "}')
            case "image":
                yield chunk(filled(b'{"type":"image","mimeType":"image/png","data":"', b'"}', b"A", size))
            case "tool":
                head = b'{"sessionUpdate":"tool_call","toolCallId":"c%b","title":"t","rawOutput":"' % name
                yield update(filled(head, b'"}', b"o", size))
            case "tools":
                yield update(b'{"sessionUpdate":"tool_call","toolCallId":"c%b","title":"t"}' % name)
            case "title":
                yield update(filled(b'{"sessionUpdate":"session_info_update","title":"', b'"}', b"t", size))
            case "id":
                head = b'{"sessionUpdate":"tool_call","title":"t","toolCallId":"'
                yield update(filled(head, b'"}', b"i", size))
            case "unknown":
                yield update(filled(b'{"sessionUpdate":"never_heard_of","x":"', b'"}', b"x", size))
            case "members":
                yield update(filled(b'{"sessionUpdate":"tool_call",', b'"z":0}', b'"a":[],', size))
            case "diff":
                head = b'{"sessionUpdate":"tool_call","toolCallId":"d%b","title":"t","content":[' % name
                diff = b'{"type":"diff","path":"/a","oldText":"","newText":"'
                yield update(filled(head + diff, b'"}]}', rb"line\n", size))
            case "commands":
                command = b'{"name":"c","description":"d"},'
                head = b'{"sessionUpdate":"available_commands_update","availableCommands":['
                yield update(filled(head, b"{}]}", command, size))
            case "options":
                option = b'{"id":"o","name":"n","type":"boolean","currentValue":true},'
                yield update(
                    filled(
                        b'{"sessionUpdate":"config_option_update","configOptions":[', b"{}]}", option, size
                    )
                )
            case "mode":
                yield update(
                    filled(b'{"sessionUpdate":"current_mode_update","currentModeId":"', b'"}', b"m", size)
                )
            case "usage":
                head = (
                    b'{"sessionUpdate":"usage_update","used":%b,"size":9,"cost":{"amount":1,"currency":"'
                    % name
                )
                yield update(filled(head, b'"}}', b"u", size))
            case "plan":
                entry = b'{"content":"x","priority":"low","status":"pending"},'
                yield update(filled(b'{"sessionUpdate":"plan","entries":[', b"{}]}", entry, size))
            case "request":
                yield b'{"jsonrpc":"2.0","id":"%b","method":"no/such"}' % (b"r" * size)
            case "error":
                yield filled(b'{"jsonrpc":"2.0","id":99,"error":{"code":1,"data":[', b"0]}}", b"[],", size)
            case "meta":
                yield filled(b'{"jsonrpc":"2.0","method":"no/such","params":{"a":[', b"0]}}", b"[],", size)
            case "permission":
                head = b'{"jsonrpc":"2.0","id":"p%b","method":"session/request_permission","params":' % name
                options = (
                    b'{"options":[{"optionId":"a","name":"a","kind":"allow_once"}],"toolCall":{"title":"'
                )
                yield filled(head + options, b'"}}}', b"p", size)
            case "form":
                head = (
                    b'{"jsonrpc":"2.0","id":"f%b","method":"elicitation/create","params":{"sessionId":"s",'
                    % name
                )
                schema = b'"mode":"form","message":"m","requestedSchema":{"type":"object","properties":{'
                yield filled(
                    head + schema, b'"z":{"type":"string"}}}}}', b'"a":{"type":"string","title":"t"},', size
                )
            case "question":
                head = (
                    b'{"jsonrpc":"2.0","id":"q%b","method":"elicitation/create","params":{"sessionId":"s",'
                    % name
                )
                rest = b'","mode":"form","requestedSchema":{"type":"object","properties":{}}}}'
                yield filled(head + b'"message":"', rest, b"q", size)
            case "asks":
                head = b'{"jsonrpc":"2.0","id":"%b%b","method":"session/request_permission","params":'
                options = (
                    b'{"options":[{"optionId":"a","name":"a","kind":"allow_once"}],"toolCall":{"title":"x"}}}'
                )
                yield head % (name, b"i" * size) + options
            case "deep":
                nested = b"[" * 150 + b"]" * 150 + b","
                yield filled(b'{"jsonrpc":"2.0","method":"no/such","params":[', b"0]}", nested, size)
            case "strings":
                yield filled(b'{"jsonrpc":"2.0","method":"no/such","params":[', b'"["]}', b'"[",', size)
            case "crumbs":
                yield b"x\n" * (size // 2)
            case "endless":
                yield b"x" * size


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        match message.get("method"):
            case "initialize":
                respond(message["id"], {"protocolVersion": 1})
            case "session/new":
                respond(message["id"], {"sessionId": "s"})
            case "session/prompt":
                kind, count, megabytes, *after = message["params"]["prompt"][-1]["text"].split()
                size = round(float(megabytes) * MEGABYTE)
                if after:
                    respond(message["id"], {"stopReason": "end_turn"})
                for said in lines(kind, int(count), size):
                    write(said)
                if kind == "stderr":
                    for _ in range(int(count)):
                        os.write(2, b"x" * size)
                if kind == "stop":
                    respond(message["id"], {"stopReason": "s" * size})
                elif not after:
                    respond(message["id"], {"stopReason": "end_turn"})


main()
