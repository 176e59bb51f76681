"""Writes the page's wire types: TypeScript interfaces for the gateway's msgspec Structs.

    .venv/bin/python frontend/wire.py            writes the files that differ
    .venv/bin/python frontend/wire.py --check    changes nothing; exit status 1 and their names if some differ

A Struct keeps its name, its docstring and the order of its fields. A field that may be UNSET is optional; one
with a default is always sent, unless its Struct omits defaults. What an agent sends as it is (Raw) has the
types of ACP that `ACP` names, or is unknown.
"""

from __future__ import annotations

import ast
import inspect
import pathlib
import sys
import textwrap
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec.inspect as shapes
from msgspec import Struct

from gateway import answers, sights
from gateway.api import (
    file_links,
    finding,
    forks,
    history,
    identity,
    sessions,
    shared,
    shares,
    uploads,
    workspaces,
)
from gateway.api.ports import face as ports
from gateway.apps.product_chat import answers as product_answers
from gateway.apps.product_chat.facts import FACTS
from gateway.apps.shop.facts import CartChanged
from gateway.events import facts as events
from gateway.events import fold as chat
from gateway.files import tree, watching
from gateway.telemetry import audit_reading

FOLDER: Final = pathlib.Path(__file__).parent / "src"

APPLICATIONS: Final[dict[str, tuple[type[Struct], ...]]] = {
    "apps/shop/wire.ts": (CartChanged,),
    "apps/product_chat/wire.ts": (
        *FACTS,
        product_answers.Opened,
        product_answers.Sent,
        product_answers.MessagePage,
        product_answers.AdminChats,
        product_answers.LoggedIn,
        product_answers.CatalogueProduct,
        product_answers.WidgetSettings,
        product_answers.PersonWanted,
        product_answers.ChatAside,
        product_answers.CannedAnswers,
    ),
}
"""What an application puts on the wire, by the file of its part of the page."""

ANSWERS: Final[tuple[type[Struct], ...]] = (
    chat.State,
    chat.Outside,
    identity.AuthState,
    identity.Handover,
    sessions.AgentList,
    sessions.RuleList,
    answers.SessionList,
    finding.SearchAnswer,
    ports.OpenPorts,
    answers.MinimalAnswer,
    history.HistoryPage,
    answers.Deleted,
    answers.Counts,
    answers.CommandAnswer,
    answers.ErrorBody,
    forks.ForkAnswer,
    forks.UndoAnswer,
    shares.ShareList,
    shares.NewShare,
    shared.SharedLink,
    file_links.FileLink,
    tree.FileListing,
    watching.TreeChange,
    answers.UsageReport,
    answers.OwnKeyList,
    answers.PeopleList,
    uploads.UploadList,
    sights.Overview,
    sights.WatchedSessions,
    sights.Acted,
    sights.DrainBegun,
    sights.RefusedHostTable,
    sights.OverviewHistory,
    sights.GatewayHealth,
    sights.LogLinePage,
    audit_reading.AuditPage,
    answers.TenantList,
    answers.KeyList,
    answers.MintedKey,
    workspaces.WorkspaceList,
    workspaces.BranchPushed,
)
"""What the core of the page reads besides events."""

ACP: Final = {
    ("agent_commands", "commands"): "AcpCommand[]",
    ("content_block", "content"): "AcpContent",
    ("plan", "entries"): "AcpPlanEntry[]",
    ("tool_call", "content"): "AcpToolContent[] | null",
    ("tool_call", "locations"): "AcpLocation[] | null",
}
"""(event, field) → the type in core/acp.ts."""

HEAD: Final = "// Made by frontend/wire.py from the gateway's Python types. Change those, and run it again.\n"


def files() -> dict[str, str]:
    """Every file, by its path below src/."""
    core = typing.get_args(events.CoreData)
    texts = {"core/wire.ts": _module([*core, *ANSWERS], imports=_acp_import(), events=core)}
    for path, structs in APPLICATIONS.items():
        texts[path] = _module(structs)
    return texts


def differing() -> dict[str, str]:
    """The files that are not what the Python types say, as they have to be."""
    return {path: text for path, text in files().items() if _read(FOLDER / path) != text}


def _read(path: pathlib.Path) -> str | None:
    return path.read_text() if path.is_file() else None


def _acp_import() -> str:
    names = sorted({kind.split("[")[0].split(" ")[0] for kind in ACP.values()})
    return f'import type {{ {", ".join(names)} }} from "./acp.ts";\n'


def _module(structs: Iterable[type[Struct]], *, imports: str = "", events: Iterable[type] = ()) -> str:
    parts = [HEAD + (f"\n{imports}" if imports else ""), *map(_interface, _with_names(structs))]
    tags = [f"  {_tag(one)}: {one.__name__};\n" for one in events]
    if tags:
        parts.append(
            "/** Every event of the core, by its type. */\nexport interface Events {\n"
            + "".join(tags)
            + "}\n"
        )
    return "\n".join(parts)


def _with_names(structs: Iterable[type[Struct]]) -> list[type[Struct]]:
    known: dict[str, type[Struct]] = {}
    for struct in _with_parts(structs):
        if known.setdefault(struct.__name__, struct) is not struct:
            raise SystemExit(f"{struct.__name__} is the name of two Structs; the page needs one meaning.")
    return list(known.values())


def _with_parts(structs: Iterable[type[Struct]]) -> Iterator[type[Struct]]:
    """Each Struct after those that its fields hold, once."""
    seen: set[type] = set()

    def visit(struct: type[Struct]) -> Iterator[type[Struct]]:
        if struct in seen:
            return
        seen.add(struct)
        for field in _shape(struct).fields:
            for part in _structs_in(field.type):
                yield from visit(part)
        yield struct

    for struct in structs:
        yield from visit(struct)


def _shape(struct: type[Struct]) -> shapes.StructType:
    shape = shapes.type_info(struct)
    assert isinstance(shape, shapes.StructType)  # noqa: S101 - every Struct is one; this tells the type checker
    return shape


def _structs_in(kind: shapes.Type) -> Iterator[type[Struct]]:
    match kind:
        case shapes.StructType(cls=cls):
            yield cls
        case shapes.UnionType(types=types):
            for one in types:
                yield from _structs_in(one)
        case shapes.ListType(item_type=item) | shapes.VarTupleType(item_type=item):
            yield from _structs_in(item)
        case shapes.DictType(value_type=value):
            yield from _structs_in(value)


def _tag(struct: type) -> Any:
    return _shape(struct).tag


def _interface(struct: type[Struct]) -> str:
    shape = _shape(struct)
    notes = _notes(struct)
    lines = [_comment(inspect.getdoc(struct) or ""), f"export interface {struct.__name__} {{\n"]
    if shape.tag is not None:
        lines.append(f'  {shape.tag_field}: "{shape.tag}";\n')
    for field in shape.fields:
        is_unset = not field.required and field.default is field.default_factory
        mark = "?" if is_unset or (not field.required and struct.__struct_config__.omit_defaults) else ""
        kind = ACP.get((str(shape.tag), field.encode_name)) or _type(field.type)
        lines.append(_comment(notes.get(field.name, ""), indent="  "))
        lines.append(f"  {field.encode_name}{mark}: {kind};\n")
    return "".join((*lines, "}\n"))


def _type(kind: shapes.Type) -> str:
    match kind:
        case shapes.StrType() | shapes.DateTimeType():
            return "string"
        case shapes.IntType() | shapes.FloatType():
            return "number"
        case shapes.BoolType():
            return "boolean"
        case shapes.NoneType():
            return "null"
        case shapes.LiteralType(values=values):
            return " | ".join(f'"{value}"' for value in values)
        case shapes.EnumType(cls=cls):
            return " | ".join(f'"{member.value}"' for member in cls)
        case shapes.StructType(cls=cls):
            return str(cls.__name__)
        case shapes.UnionType(types=types):
            return " | ".join(map(_type, types))
        case shapes.ListType(item_type=item) | shapes.VarTupleType(item_type=item):
            inner = _type(item)
            return f"({inner})[]" if "|" in inner else f"{inner}[]"
        case shapes.TupleType(item_types=items):
            return f"[{', '.join(map(_type, items))}]"
        case shapes.DictType(value_type=value):
            return f"Record<string, {_type(value)}>"
        case shapes.RawType() | shapes.AnyType():
            return "unknown"
    raise SystemExit(f"frontend/wire.py has no TypeScript for {kind}.")


def _comment(text: str, *, indent: str = "") -> str:
    words = " ".join(text.split())
    if not words:
        return ""
    if len(indent) + len(words) <= 110:
        return f"{indent}/** {words} */\n"
    body = textwrap.fill(words, 114, initial_indent=f"{indent} * ", subsequent_indent=f"{indent} * ")
    return f"{indent}/**\n{body}\n{indent} */\n"


def _notes(struct: type) -> dict[str, str]:
    """Field → the string below it in the source."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if not issubclass(base, Struct) or base is Struct:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)  # noqa: S101 - it is the source of a class
        for field, note in zip(body.body, body.body[1:], strict=False):
            match field, note:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = words
    return found


def main(arguments: list[str]) -> int:
    """Writes the files, or says which differ."""
    found = differing()
    for path, text in found.items():
        if "--check" in arguments:
            sys.stdout.write(f"frontend/src/{path} differs from the Python types: run frontend/wire.py\n")
        else:
            (FOLDER / path).write_text(text)
            sys.stdout.write(f"wrote frontend/src/{path}\n")
    return 1 if found and "--check" in arguments else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
