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
from msgspec import UNSET, UnsetType

from gateway.events import facts as ev
from gateway.events.fold import ChatState, Message
from gateway.files import sniffing
from gateway.files.attached import Seen

TRANSCRIPT_BYTES: Final = 64 * 1024
"""How much of an earlier conversation is handed over; the newest part is kept."""
_ROLES: Final = {"user": "user", "agent": "assistant", "system": "system"}
_MARKS: Final = ("systemmessage", "messageisfrom")
"""What the gateway's own lines have, without spaces."""
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
    if sniffing.is_image(file.media_type):
        data = base64.b64encode(one.data).decode()
        return {"type": "image", "mimeType": file.media_type, "data": data, "uri": uri}
    resource = {"uri": uri, "mimeType": file.media_type, "text": one.data.decode()}
    return {"type": "resource", "resource": resource}


def with_files(text: str, attachments: Iterable[ev.Attachment]) -> str:
    """A message's text with the names of its files, for whoever gets only text."""
    names = ", ".join(one.path for one in attachments)
    return "\n".join(filter(None, (text, names and f"[attached: {names}]")))


def introduction(author: ev.Contributor | UnsetType) -> str:
    """Says whose a message is. The name is a JSON string, so that it cannot go on as a sentence."""
    if author is UNSET:
        return "The next message is from the owner of this session."
    name = msgspec.json.encode(author.name).decode()
    what = "signed in" if author.kind == "person" else "a guest"
    return f"The next message is from {name} ({what}), who came by a link."


def quoted(text: str, author: ev.Contributor | UnsetType) -> str:
    """The text as the agent gets it if several people write. Every line of somebody else's begins with `>`,
    so that no text of theirs reads as a line of the gateway's or of the owner's. One line that is a command
    of the agent's stays as it is.
    """
    lines = text.splitlines()
    if author is UNSET or (len(lines) == 1 and text.startswith("/")):
        return text
    return "\n".join(f"> {line}" for line in lines)


def _imitates(text: str, author: ev.Contributor | UnsetType) -> bool:
    plain = "".join(text.casefold().split())
    return author is not UNSET and any(mark in plain for mark in _MARKS)


def prompt_text(
    texts: Sequence[tuple[str, ev.Contributor | UnsetType]], *, names_authors: bool
) -> tuple[list[str], str]:
    """What introduces a prompt, and its text. One writer is not named, unless a text reads as if the gateway
    named somebody.
    """
    if not names_authors and not any(_imitates(*one) for one in texts):
        return [], "\n\n".join(text for text, _ in texts)
    if len(texts) == 1:
        return [introduction(texts[0][1])], quoted(*texts[0])
    return [], "\n\n".join(f"[{introduction(author)}]\n{quoted(text, author)}" for text, author in texts)


def transcript(fold: ChatState, *, before_message_id: str) -> list[bytes]:
    """The conversation before a message as JSON lines `{"role", "content"}`, the newest that fit, oldest
    first.
    """
    earlier: list[Message] = []
    for message in fold.messages:
        if message.id == before_message_id:
            break
        if message.says_nothing or message.is_withdrawn:
            continue
        if message.text.length or message.attachments:
            earlier.append(message)
    lines: list[bytes] = []
    size = 0
    for message in reversed(earlier):
        if message.text.length > TRANSCRIPT_BYTES:
            break
        content = with_files(str(message.text), message.attachments)
        if message.sender == "user" and fold.several_write:
            content = f"[{introduction(message.author)}]\n{quoted(content, message.author)}"
        line = msgspec.json.encode({"role": _ROLES[message.sender], "content": content})
        size += len(line)
        if size > TRANSCRIPT_BYTES:
            break
        lines.append(line)
    return lines[::-1]


def retold(sender: ev.Sender, text: str, author: ev.Contributor | UnsetType = UNSET) -> str:
    """The text that tells the agent of a message sent while a person had taken over."""
    if author is not UNSET:
        return f"{introduction(author)}\n{quoted(text, author)}"
    who = "The visitor wrote" if sender == "user" else "A member of the staff answered the visitor"
    return f"{who}: {text}"


def unheard(fold: ChatState) -> list[str]:
    """The system messages that came after the last turn, which the agent has not heard."""
    said: list[str] = []
    for message in reversed(fold.messages):
        if message.turn_id is not None:
            break
        if message.is_withdrawn:
            continue
        if message.sender != "system":
            said.append(
                retold(message.sender, with_files(str(message.text), message.attachments), message.author)
            )
        elif message.id.startswith("s"):
            said.append(str(message.text))
    if not any(message.turn_id for message in fold.messages):
        said += fold.briefings
    return said[::-1]


def _marked(kind: str, text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "_meta": {_EXTENSION: {"kind": kind}}}
