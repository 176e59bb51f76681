"""The columns of the agents' table that are about files: what goes in, what comes out, and forks."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

from tests.agent_trials import FIRST, Red, Trial, last_words
from worker.spec import INNER_WORK

TEXT: Final = (
    "first line\n\t\u05e9\u05dc\u05d5\u05dd, \u4f60\u597d \U0001f388\n'one' \"two\" \\n $HOME `x`\nthe end\n"
)
"""What an agent writes: each of it is changed by some way of writing it wrongly."""
_DATA: Final = re.compile(r"data:image/[\w.+-]+;base64,(.+)", re.DOTALL)
_BEGINNINGS: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")


def picture() -> bytes:
    """A PNG of 32 × 32 pixels, red on the left and blue on the right."""
    row = b"\0" + b"\xff\0\0" * 16 + b"\0\0\xff" * 16
    parts = {b"IHDR": struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(row * 32)}
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (*parts.items(), (b"IEND", b""))
    ]
    return _BEGINNINGS[0] + b"".join(chunks)


def pictures(body: Any) -> Iterator[bytes]:
    """The images in a request to a model: those that its dialect has as images, whatever that is."""
    match body:
        case {"image_url": {"url": str(text)}} | {"type": "input_image", "image_url": str(text)}:
            found = _DATA.fullmatch(text)
            yield from _bytes_of(found[1] if found else "")
        case {"type": "image", "source": {"type": "base64", "data": str(text)}}:
            yield from _bytes_of(text)
        case {"inlineData": {"mimeType": str(kind), "data": str(text)}} if kind.startswith("image/"):
            yield from _bytes_of(text)
        case dict():
            for value in body.values():
                yield from pictures(value)
        case list():
            for value in body:
                yield from pictures(value)


def _bytes_of(text: str) -> Iterator[bytes]:
    with contextlib.suppress(ValueError):
        data = base64.b64decode(text, validate=True)
        if data.startswith(_BEGINNINGS):
            yield data


async def image(trial: Trial) -> str:
    """A picture that a person sends is an image in the next call of the model."""
    session_id, path, data = "pictures", "uploads/picture.png", picture()
    await _begin(trial, session_id, path, data)
    trial.model.requests.clear()
    state = await _ended(trial, session_id, "What is this?", attachments=[path])
    seen = [one for request in trial.model.requests for one in pictures(request.body)]
    if not seen:
        raise Red(f"its model got no picture; it said: {last_words(state)}")
    how = "as it was sent" if data in seen else "encoded anew by the agent"
    return how if trial.case.model == FIRST else f"{how}, if it knows the model's name (`{trial.case.model}`)"


async def file(trial: Trial) -> str:
    """A file that the agent wrote with its own tool is downloaded, byte for byte. Behind strict walls."""
    session_id, name = "written", "made by the agent.txt"
    await _begin(trial, session_id, "given.txt", b"given\n")
    path = f"{INNER_WORK}/{name}" if trial.case.writes else f"'{name}'"
    state = await trial.obeyed(session_id, trial.writing(path, TEXT))
    found = await _content(trial, session_id, name)
    if found is None:
        raise Red(f"wrote nothing; it said: {last_words(state)}")
    if found != TEXT.encode():
        raise Red(f"wrote {found[:80]!r}")
    return f"{len(found)} bytes by its `{trial.case.writes or trial.case.tool}`"


async def fork(trial: Trial) -> str:
    """Both branches of a fork go on, with the conversation so far, and write other files."""
    parent = "forked"
    await _begin(trial, parent, "given.txt", b"given\n")
    await trial.say(parent, "remember the word xylophone")
    await trial.obeyed(parent, trial.command("echo both > base.txt"))
    child = (await trial.gateway.post(f"/api/sessions/{parent}/fork", {}, status=201))["session"][
        "session_id"
    ]
    trial.model.requests.clear()
    await trial.obeyed(child, trial.command("echo left > branch.txt"))
    if not any("xylophone" in json.dumps(request.body) for request in trial.model.requests):
        raise Red("the fork's model was not given the conversation")
    state = await trial.obeyed(parent, trial.command("echo right > branch.txt"))
    for session_id, expected in ((child, b"left\n"), (parent, b"right\n")):
        for name, content in (("given.txt", b"given\n"), ("base.txt", b"both\n"), ("branch.txt", expected)):
            if (found := await _content(trial, session_id, name)) != content:
                which = "the fork" if session_id == child else "the parent"
                raise Red(f"{name} of {which} is {found!r}; it said: {last_words(state)}")
    how = [frame.data["how"] for frame in await trial.events(child) if frame.event == "agent_started"]
    return "by its own `session/fork`" if how[-1] == "forked" else f"{how[-1]}"


async def _begin(trial: Trial, session_id: str, path: str, data: bytes) -> None:
    """A new session with a file in it."""
    await trial.gateway.post("/api/sessions", {"session_id": session_id, "agent": "real"}, status=201)
    url = f"/api/sessions/{session_id}/files/content"
    async with trial.gateway.http.put(url, params={"path": path}, data=data) as response:
        assert response.status == 200, await response.text()


async def _ended(trial: Trial, session_id: str, text: str, **body: Any) -> Any:
    """State after a turn."""
    await trial.gateway.send(session_id, text, agent="real", **body)
    return await trial.finish(session_id)


async def _content(trial: Trial, session_id: str, path: str) -> bytes | None:
    """What is downloaded; None: there is no such file."""
    url = f"/api/sessions/{session_id}/files/content"
    async with trial.gateway.http.get(url, params={"path": path}) as response:
        return await response.read() if response.status == 200 else None
