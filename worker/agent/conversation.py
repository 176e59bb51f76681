"""What a session has said so far, as the messages that a chat model takes, and how a prompt is read.

Guarantees: the history is bounded in messages and in tokens; the oldest go first, system messages last; a
tool's answer never stays without the call it answers (model endpoints refuse that), and the user message that
is being answered always stays.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

HISTORY_MESSAGES: Final = 400
HISTORY_TOKENS: Final = 100_000
"""What today's models take, with room for the answer."""
HISTORY_SHARE: Final = 0.75
"""Of a model's context, where that is known; the rest is for instructions and the answer."""
IMAGES_CHARACTERS: Final = 7 * 1024 * 1024
"""So much of images, as Base64, is shown to the model again with each call; older ones are only mentioned."""
IMAGE_TOKENS: Final = 1_500
"""About what an image takes of a model's context."""
CHARACTERS_PER_TOKEN: Final = 4
"""Of English; a letter outside ASCII counts for two."""

META_KEY: Final = "agent-gateway"
"""Our corner of ACP's `_meta`."""

ModelMessage = dict[str, Any]
"""One message in the shape of OpenAI's chat completions."""


class TranscriptLine(msgspec.Struct, frozen=True):
    """One line of the conversation that the gateway hands over when it revives a session."""

    role: str
    content: str


class Image(msgspec.Struct, frozen=True):
    """An image of a prompt, as it came: in Base64."""

    media_type: str
    data: str


class Prompt(msgspec.Struct, frozen=True):
    """A `session/prompt`, sorted: what the user typed, what the gateway put in front."""

    text: str
    """With the texts and the names of files that came with it."""
    typed: str = ""
    """What the user typed, alone."""
    images: tuple[Image, ...] = ()
    system: tuple[str, ...] = ()
    context: str = ""
    """What the gateway found for this message alone; it is not remembered."""
    transcript: tuple[TranscriptLine, ...] | None = None


def read_prompt(blocks: list[dict[str, Any]]) -> Prompt:
    """ACP content blocks as a prompt; blocks that are neither text nor image are mentioned by name."""
    texts: list[str] = []
    typed: list[str] = []
    images: list[Image] = []
    system: list[str] = []
    context: list[str] = []
    transcript: tuple[TranscriptLine, ...] | None = None
    for block in blocks:
        match _kind(block):
            case "system":
                system.append(_block_text(block))
            case "context":
                context.append(_block_text(block))
            case "transcript":
                transcript = _read_transcript(_block_text(block))
            case _ if (image := _image(block)) is not None:
                images.append(image)
                texts.append(f"\n[image {_name(block.get('uri'))}]\n")
            case _:
                texts.append(_block_text(block))
                typed += texts[-1:] if block.get("type") == "text" else []
    return Prompt(
        "".join(texts), "".join(typed), tuple(images), tuple(system), "\n".join(context), transcript
    )


def _kind(block: dict[str, Any]) -> object:
    meta = block.get("_meta")
    ours = meta.get(META_KEY) if isinstance(meta, dict) else None
    return ours.get("kind") if isinstance(ours, dict) else None


def _image(block: dict[str, Any]) -> Image | None:
    """The image of a block; None if it has none."""
    data, kind = block.get("data"), block.get("mimeType")
    if block.get("type") != "image" or not isinstance(kind, str) or not isinstance(data, str):
        return None
    return Image(kind, data) if data else None


def _name(uri: object) -> str:
    """What a file is called whose address this is, as far as one can say."""
    return str(uri).removeprefix("file://") if isinstance(uri, str) else ""


def content_of(text: str, images: tuple[Image, ...]) -> str | list[dict[str, Any]]:
    """The content of a user's message, as OpenAI's chat completions spell it."""
    if not images:
        return text
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    for image in images:
        url = f"data:{image.media_type};base64,{image.data}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def _block_text(block: dict[str, Any]) -> str:
    match block.get("type"):
        case "text":
            return str(block.get("text", ""))
        case "resource_link":
            return f"\n[{block.get('name', 'file')}]({block.get('uri', '')})\n"
        case "resource":
            return _resource_text(block.get("resource"))
        case other:
            return f"[{other} that this agent cannot read]"


def _resource_text(resource: object) -> str:
    if not isinstance(resource, dict):
        return "[resource]"
    name = f"[{resource.get('uri', 'resource')}]"
    text = resource.get("text")
    return f"\n{name}\n{text}\n" if isinstance(text, str) else name


def _read_transcript(text: str) -> tuple[TranscriptLine, ...]:
    lines: list[TranscriptLine] = []
    for line in text.split("\n"):
        try:
            said = msgspec.json.decode(line.encode(), type=TranscriptLine)
        except msgspec.DecodeError:
            continue
        if said.role in ("user", "assistant", "system"):
            lines.append(said)
    return tuple(lines)


class History:
    """The conversation of one session."""

    def __init__(self, *, context_tokens: int = 0) -> None:
        """`context_tokens`: how much the model reads at once; 0: not known."""
        self.messages: list[ModelMessage] = []
        self.forgotten = 0
        """How many messages no longer fitted."""
        self._limit = int(context_tokens * HISTORY_SHARE) or HISTORY_TOKENS

    def restore(self, transcript: tuple[TranscriptLine, ...]) -> None:
        """Starts again from an earlier conversation."""
        self.messages = [{"role": said.role, "content": said.content} for said in transcript]
        self._trim()

    def add(self, *messages: ModelMessage) -> None:
        """Appends messages that belong together: a call of tools comes with all their answers."""
        self.messages += messages
        self._drop_old_images()
        self._trim(newest=len(messages))

    def settle(self, user_message: ModelMessage, answer: str, *, keep_question: bool = True) -> None:
        """Ends a turn that was cut: what came after its user message becomes `answer`, the text shown."""
        at = next((i for i, message in enumerate(self.messages) if message is user_message), None)
        if at is None:
            return
        del self.messages[at + (1 if answer or keep_question else 0) :]
        if answer:
            self.add({"role": "assistant", "content": answer})

    def _drop_old_images(self) -> None:
        """Mentions those that no longer fit, the oldest first."""
        size = 0
        for message in reversed(self.messages):
            content = message.get("content")
            parts: list[dict[str, Any]] = content if isinstance(content, list) else []
            for at, part in enumerate(parts):
                url = part.get("image_url", {}).get("url", "")
                size += len(url)
                if url and size > IMAGES_CHARACTERS:
                    parts[at] = {"type": "text", "text": "[an image that is no longer shown]"}

    def _trim(self, newest: int = 1) -> None:
        tokens = sum(map(_size, self.messages))
        while len(self.messages) > HISTORY_MESSAGES or tokens > self._limit:
            at = self._oldest(len(self.messages) - newest)
            if at is None:
                return
            end = at + 1
            while end < len(self.messages) and self.messages[end]["role"] == "tool":
                end += 1
            tokens -= sum(map(_size, self.messages[at:end]))
            self.forgotten += end - at
            del self.messages[at:end]

    def _oldest(self, end: int) -> int | None:
        """The first message that may go: system messages go last, the last question never."""
        users = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        question = users[-1] if users else -1
        free = [i for i in range(end) if i != question]
        return next((i for i in free if self.messages[i]["role"] != "system"), free[0] if free else None)


def _size(message: ModelMessage) -> int:
    calls = message.get("tool_calls") or ()
    arguments = sum(len(call["function"]["arguments"]) for call in calls)
    content = message.get("content") or ""
    parts = [{"text": content}] if isinstance(content, str) else content
    tokens = sum(tokens_of(part["text"]) if "text" in part else IMAGE_TOKENS for part in parts)
    return tokens + -(-arguments // CHARACTERS_PER_TOKEN)


def tokens_of(text: str) -> int:
    """About how many tokens a text takes."""
    wide = 0 if text.isascii() else sum(1 for letter in text if not letter.isascii())
    return -(-(len(text) + wide) // CHARACTERS_PER_TOKEN)
