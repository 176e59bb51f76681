"""Files of a session that a message brings to its agent: what they are, and their bytes.

Bytes are read when the agent is prompted, not before: what changed or vanished meanwhile is as it is. All
functions here wait for the disk: they run in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from msgspec import Struct

from gateway.config.files import FilesConfig
from gateway.errors import AttachmentRefused
from gateway.events.facts import Attachment
from gateway.files import media, sniffing, upload_names
from gateway.files.arrival import FilesPlace
from gateway.files.beneath import Folder, Unsafe, as_user


class Seen(Struct, frozen=True):
    """What an agent is shown of an attached file."""

    attachment: Attachment
    data: bytes | None = None
    """Its content, if it is short enough to be shown; None: it is only named."""
    problem: str = ""
    """Why it cannot be read, in words; empty: it can."""


class Shown(Struct, frozen=True):
    """What an agent can be shown."""

    images: bool = False
    texts: bool = False


def open_file(place: FilesPlace, path: str) -> tuple[BinaryIO, bytes, int]:
    """A file of a session, with its beginning and its size. Raises OSError."""
    with Folder(place.work) as work, as_user(place.uid):
        file = os.fdopen(work.open(path), "rb", buffering=0)
    try:
        found = os.fstat(file.fileno())
        return file, os.pread(file.fileno(), sniffing.HEAD_BYTES, 0), found.st_size  # a folder: EISDIR
    except OSError:
        file.close()
        raise


def attachments(place: FilesPlace, paths: Sequence[str], files: FilesConfig) -> tuple[Attachment, ...]:
    """What the paths of a message are. Raises AttachmentRefused."""
    if len(paths) > files.attachments_per_message:
        raise AttachmentRefused(f"A message may have {files.attachments_per_message} attachments.")
    return tuple(_attachment(place, path) for path in dict.fromkeys(paths))


def _attachment(place: FilesPlace, path: str) -> Attachment:
    path = upload_names.checked_path(path)
    name = path.rpartition("/")[2]
    try:
        file, head, size = open_file(place, path)
    except OSError as error:
        raise AttachmentRefused(f"{path} cannot be attached: {_why(error)}.") from None
    file.close()
    return Attachment(path, name, size, sniffing.type_of(name, head))


def seen(place: FilesPlace, attached: Sequence[Attachment], shown: Shown, files: FilesConfig) -> list[Seen]:
    """What an agent is shown of a message's files now."""
    left, result = files.prompt_bytes, []
    for attachment in attached:
        one = _seen(place, attachment, shown, files, left)
        left -= len(one.data or b"")
        result.append(one)
    return result


def _seen(place: FilesPlace, attachment: Attachment, shown: Shown, files: FilesConfig, left: int) -> Seen:
    try:
        file, head, size = open_file(place, attachment.path)
    except OSError as error:
        return Seen(attachment, problem=_why(error))
    with file:
        kind = sniffing.type_of(attachment.name, head)
        now = Attachment(attachment.path, attachment.name, size, kind)
        most = _most(kind, shown, files)
        if size > min(most, left):
            return Seen(now)
        try:
            data = file.read(most + 1)
        except OSError as error:
            return Seen(now, problem=_why(error))
    is_shown = len(data) <= min(most, left) and (sniffing.is_image(kind) or sniffing.is_text(data))
    return Seen(now, data if is_shown else None)


def _most(kind: str, shown: Shown, files: FilesConfig) -> int:
    """How long a file of this type may be to be shown; -1: it is not shown."""
    if sniffing.is_image(kind):
        return files.image_bytes if shown.images else -1
    if media.is_text_type(kind):
        return files.text_bytes if shown.texts else -1
    return -1


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Unsafe | IsADirectoryError):
        return "it is not a file"
    return error.strerror or "it cannot be read"
