"""Notes beside a conversation: what this application declares."""

from __future__ import annotations

import pathlib
from typing import Final

from agent_gateway_notes.faces import open_notes
from agent_gateway_notes.facts import NoteAdded, NotesPart
from agent_gateway_notes.settings import NotesConfig
from agent_gateway_notes.store import keep
from gateway.extension import Application, Outliving

APPLICATION: Final = Application(
    name="notes",
    open=open_notes,
    keep=keep,
    table="notes",
    settings=NotesConfig,
    facts=(NoteAdded,),
    fold=NotesPart,
    migrations=pathlib.Path(__file__).parent / "migrations",
    outliving=(Outliving(table="notes"),),
    tools=("notes",),
)
