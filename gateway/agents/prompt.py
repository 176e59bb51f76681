"""The text blocks that the gateway adds to a prompt. Pure.

ACP delivers text only with a prompt, so system messages wait for the next prompt and precede it as separate
text blocks. An agent whose process lost its conversation gets it back the same way, up to a limit.
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.events import facts as ev
from gateway.events.fold import ChatState, Message
from gateway.files import media
from gateway.files.attached import Seen

TRANSCRIPT_BYTES: Final = 64 * 1024
"""How much of an earlier conversation is handed over; the newest part is kept."""
_ROLES: Final = {"user": "user", "agent": "assistant", "system": "system"}
_EXTENSION: Final = "agent-gateway"


def prompt_blocks(
    text: str,
    said: Sequence[str],
    transcript: Sequence[bytes],
    *,
    is_built_in: bool,
    context: str = "",
    files: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """ACP content blocks: the earlier conversation (if it must be given back), system messages, what was
    found for this message alone, the user's text, the files that came with it.
    """
    blocks = []
    if transcript:
        lines = b"\n".join(transcript).decode()
        header = "" if is_built_in else "This conversation so far, one JSON object a line; go on from it.\n"
        blocks.append(_marked("transcript", header + lines))
    prefix = "" if is_built_in else "[system message] "
    blocks += [_marked("system", prefix + message) for message in said]
    if context:
        blocks.append(_marked("context", context + ("" if is_built_in else "\n\nThe user's message:\n")))
    if text or not files:
        blocks.append({"type": "text", "text": text})
    return [*blocks, *files]


def file_blocks(seen: Sequence[Seen], *, cwd: str) -> list[dict[str, Any]]:
    """The files of a message as ACP content blocks: shown as far as the agent can be shown them, else named.
    `cwd` is the working directory as the agent sees it.
    """
    return [_file_block(one, cwd) for one in seen]


def _file_block(one: Seen, cwd: str) -> dict[str, Any]:
    file = one.attachment
    uri = "file://" + urllib.parse.quote(f"{cwd.rstrip('/')}/{file.path}")
    if one.problem:
        return {"type": "text", "text": f"\n[The attached file {file.path} cannot be read: {one.problem}.]"}
    if one.data is None:
        link = {"type": "resource_link", "uri": uri, "name": file.name, "size": file.size}
        return link | {"mimeType": file.media_type}
    if media.is_image(file.media_type):
        data = base64.b64encode(one.data).decode()
        return {"type": "image", "mimeType": file.media_type, "data": data, "uri": uri}
    resource = {"uri": uri, "mimeType": file.media_type, "text": one.data.decode()}
    return {"type": "resource", "resource": resource}


def with_files(text: str, attachments: Iterable[ev.Attachment]) -> str:
    """A message's text with the names of its files, for whoever gets only text."""
    names = ", ".join(one.path for one in attachments)
    return "\n".join(filter(None, (text, names and f"[attached: {names}]")))


def transcript(fold: ChatState, *, before_message_id: str) -> list[bytes]:
    """The conversation before a message as JSON lines `{"role", "content"}`, the newest that fit, oldest
    first.
    """
    earlier: list[Message] = []
    for message in fold.messages:
        if message.id == before_message_id:
            break
        if message.text.length or message.attachments:
            earlier.append(message)
    lines: list[bytes] = []
    size = 0
    for message in reversed(earlier):
        if message.text.length > TRANSCRIPT_BYTES:
            break
        text = with_files(str(message.text), message.attachments)
        line = msgspec.json.encode({"role": _ROLES[message.sender], "content": text})
        size += len(line)
        if size > TRANSCRIPT_BYTES:
            break
        lines.append(line)
    return lines[::-1]


def retold(sender: ev.Sender, text: str) -> str:
    """The text that tells the agent of a message sent while a person had taken over."""
    who = "The visitor wrote" if sender == "user" else "A member of the staff answered the visitor"
    return f"{who}: {text}"


def unheard(fold: ChatState) -> list[str]:
    """The system messages that came after the last turn, which the agent has not heard."""
    said: list[str] = []
    for message in reversed(fold.messages):
        if message.turn_id is not None:
            break
        if message.sender != "system":
            said.append(retold(message.sender, with_files(str(message.text), message.attachments)))
        elif message.id.startswith("s"):
            said.append(str(message.text))
    if not any(message.turn_id for message in fold.messages):
        said += fold.briefings
    return said[::-1]


def _marked(kind: str, text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "_meta": {_EXTENSION: {"kind": kind}}}
