"""What was used and what it cost, summed by what the caller asks for: one's own, and for operators
everybody's within their reach.

It is read from the ledger, which has names and numbers only. An operator sees who spends how much, and
sessions by their internal keys; people see their own sessions by their own ids.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Sequence
from typing import Final, get_args

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers import Forgotten, UsageReport, UsageRow
from gateway.errors import Forbidden, InvalidField
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, Parameter, json_response
from gateway.http.reading import query_int, read_body
from gateway.principal import reach, tenant_of
from gateway.sessions.services import FaceServices
from gateway.stores.ledger import Chosen, Dimension, SumRow, UsageSum, day_of

MAX_ROWS: Final = 10_000
USUAL_ROWS: Final = 1_000
USUAL_DAYS: Final = 30
OWN: Final[tuple[Dimension, ...]] = ("day", "session", "agent", "provider", "model")
ALL: Final[tuple[Dimension, ...]] = get_args(Dimension)
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a table calculation takes for a formula at the beginning of a cell."""
EPOCH: Final = datetime.date(1970, 1, 1)


class ForgetRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose name is taken out of what was used: TENANT/SUBJECT."""

    owner: str


class UsageFace:
    """The handlers."""

    def __init__(self, services: FaceServices) -> None:
        self._services = services

    def operations(self) -> list[Operation]:
        """Both reports as operations."""
        return [
            Operation(
                method="GET", scope="read", path="/api/usage", handler=self.own_usage,
                summary="What one's own sessions used, and what it cost", answer=UsageReport,
                other_media_types=("text/csv",), parameters=_parameters(OWN),
            ),
            Operation(
                method="GET", scope="operate", path="/api/admin/usage", handler=self.all_usage,
                summary="What everybody used, and what it cost", answer=UsageReport,
                other_media_types=("text/csv",), parameters=(
                    *_parameters(ALL),
                    Parameter(name="tenant", schema={"type": "string"}, description="Only of this tenant."),
                ),
            ),
            Operation(
                method="POST", scope="admin", path="/api/admin/usage/forget", handler=self.forget_usage,
                summary="Take a person out of what was used; the sums stay", body=ForgetRequest,
                answer=Forgotten,
            ),
        ]  # fmt: skip

    async def own_usage(self, request: Request) -> Response:
        owner = principal_of(request).owner
        by = _dimensions(request, OWN)
        report = await self._report(request, by, owner=owner)
        if "session" in by:
            report = await self._with_ids(report, owner)
        return _written(request, report)

    async def all_usage(self, request: Request) -> Response:
        limit_to, asked = reach(principal_of(request)), request.query_params.get("tenant") or None
        if asked is not None and limit_to not in (None, asked):
            raise Forbidden("Only your own tenant's usage can be seen.")
        by = _dimensions(request, ALL)
        return _written(request, await self._report(request, by, tenant=limit_to or asked))

    async def forget_usage(self, request: Request) -> Response:
        principal = principal_of(request)
        asked = await read_body(request, ForgetRequest, self._services.config)
        if reach(principal) not in (None, tenant_of(asked.owner)):
            raise Forbidden("Only people of your own tenant can be forgotten.")
        was_known = await self._services.store.ledger.forget_person(asked.owner)
        self._services.audit.note(principal, "usage.forgotten", target=asked.owner)
        return json_response(Forgotten(was_known=was_known))

    async def _report(
        self,
        request: Request,
        by: Sequence[Dimension],
        *,
        tenant: str | None = None,
        owner: str | None = None,
    ) -> UsageReport:
        today = day_of(self._services.wall_ms())
        to_day = _day(request, "to", today)
        from_day = _day(request, "from", to_day - USUAL_DAYS + 1)
        if from_day > to_day:
            raise InvalidField("from is after to.", field=("query", "from"))
        limit = query_int(request, "limit", default=USUAL_ROWS, low=1, high=MAX_ROWS)
        chosen = Chosen(from_day=from_day, to_day=to_day, tenant=tenant, owner=owner)
        store = self._services.store.ledger
        rows = await store.sums(by, chosen, limit=limit + 1)
        total = await store.sums((), chosen, limit=1)
        return UsageReport(
            from_day=_date(from_day),
            to_day=_date(to_day),
            by=list(by),
            rows=[_row(row) for row in rows[:limit]],
            total=_row(total[0] if total else SumRow(names={}, total=UsageSum())),
            has_more=len(rows) > limit,
        )

    async def _with_ids(self, report: UsageReport, owner: str) -> UsageReport:
        """Sessions by the ids that their owner knows; those that are not there any more by none."""
        stored = await self._services.store.sessions.of_owner(owner, limit=MAX_ROWS)
        ids = {record.key: record.session_id for record in stored}
        for row in report.rows:
            row.names["session"] = ids.get(row.names["session"], "")
        return report


def _parameters(dimensions: Sequence[Dimension]) -> tuple[Parameter, ...]:
    day = {"type": "string", "format": "date"}
    names = ", ".join(dimensions)
    return (
        Parameter(
            name="by", schema={"type": "string"}, description=f"One or more of {names}; day by default."
        ),
        Parameter(name="from", schema=day, description=f"The first day (UTC); {USUAL_DAYS} days by default."),
        Parameter(name="to", schema=day, description="The last day (UTC); today by default."),
        Parameter(name="format", schema={"type": "string", "enum": ["json", "csv"]}, description="How."),
        Parameter(
            name="limit",
            schema={"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
            description="How many rows.",
        ),
    )


def _dimensions(request: Request, known: Sequence[Dimension]) -> list[Dimension]:
    asked = [name.strip() for name in (request.query_params.get("by") or "day").split(",")]
    found = [name for name in known if name in asked]
    if len(found) != len(asked):
        raise InvalidField(f"by is one or more of {', '.join(known)}.", field=("query", "by"))
    return found


def _day(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if not text:
        return default
    try:
        return (datetime.date.fromisoformat(text) - EPOCH).days
    except ValueError:
        raise InvalidField(f"{name} is a day, such as 2026-01-31.", field=("query", name)) from None


def _date(day: int) -> str:
    """A day as people write it; one that is out of all bounds as the last that can be written."""
    try:
        return (EPOCH + datetime.timedelta(days=day)).isoformat()
    except OverflowError:
        return datetime.date.max.isoformat() if day > 0 else datetime.date.min.isoformat()


def _row(row: SumRow) -> UsageRow:
    total, names = row.total, dict(row.names)
    if "day" in names:
        names["day"] = _date(int(names["day"]))
    return UsageRow(
        names=names,
        calls=total.calls,
        input_tokens=total.input,
        cache_read_tokens=total.cache_read,
        cache_write_tokens=total.cache_write,
        output_tokens=total.output,
        reasoning_tokens=total.reasoning,
        told_tokens=total.told_tokens,
        tokens=total.tokens,
        cost_usd=total.cost / 1_000_000,
        unpriced_calls=total.unpriced_calls,
        estimated_calls=total.estimated_calls,
        cpu_seconds=total.cpu_ms / 1000,
        memory_gb_seconds=total.memory_mb_seconds / 1000,
        wall_seconds=total.wall_ms / 1000,
        stored_bytes=total.stored_bytes,
    )


def _written(request: Request, report: UsageReport) -> Response:
    form = request.query_params.get("format") or "json"
    if form == "json":
        return json_response(report)
    if form != "csv":
        raise InvalidField("format is json or csv.", field=("query", "format"))
    return Response(
        table_of(report),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="usage.csv"', "Cache-Control": "no-store"},
    )


def table_of(report: UsageReport) -> str:
    """A report as a table with a head, in the form that table calculations read."""
    text = io.StringIO()
    writer = csv.writer(text)
    amounts = [name for name in UsageRow.__struct_fields__ if name != "names"]
    writer.writerow([*report.by, *amounts])
    for row in report.rows:
        names = [_cell(row.names[name]) for name in report.by]
        writer.writerow([*names, *(getattr(row, amount) for amount in amounts)])
    return text.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text
