"""`agent-gateway usage`: what was used and what it cost, as a table, CSV or JSON."""

from __future__ import annotations

import argparse
from typing import Final

import msgspec

from gateway.answers import UsageReport, UsageRow
from gateway.cli.columns import Column, lines
from gateway.cli.options import add_common, configured, run_by
from gateway.cli.reach import asked
from gateway.client import GatewayClient
from gateway.telemetry import terminal

ROWS: Final = 1_000


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_common(parser)
    names = "day, tenant, person, session, key, agent, provider, model"
    parser.add_argument("--by", default="day,model", metavar="NAMES", help=f"one or more of {names}")
    parser.add_argument(
        "--from", dest="from_day", metavar="DAY", help="such as 2026-01-31; 30 days by default"
    )
    parser.add_argument("--to", dest="to_day", metavar="DAY", help="today by default")
    parser.add_argument("--tenant", metavar="TENANT", help="only of this tenant")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help=f"so many rows ({ROWS})")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    parser.add_argument(
        "--forget",
        metavar="TENANT/SUBJECT",
        help="take a person out of what was used; the sums stay, of nobody",
    )
    run_by(parser, _usage)


def _usage(options: argparse.Namespace) -> int:
    if options.forget:
        return _forget(options)
    query = {"by": options.by, "limit": str(max(1, options.rows))}
    given = {"from": options.from_day, "to": options.to_day, "tenant": options.tenant}
    query |= {name: value for name, value in given.items() if value}

    async def act(client: GatewayClient) -> None:
        if options.format == "csv":
            for line in (await client.usage_table(query)).splitlines():
                terminal.say(line)
            return
        report = await client.usage(query)
        if options.format == "json":
            terminal.say_json(msgspec.json.encode(report).decode())
            return
        for line in drawn(report):
            terminal.say(line)
        if report.has_more:
            terminal.complain(f"there are more rows: say --rows {2 * len(report.rows)}")
        if report.total.unpriced_calls:
            terminal.complain(
                f"{report.total.unpriced_calls:,} calls are of models without a price, and not in the cost: "
                "name their prices in the configuration (docs/costs.md)"
            )

    return asked(configured(options), act)


def _forget(options: argparse.Namespace) -> int:
    async def act(client: GatewayClient) -> None:
        forgotten = await client.forget_usage(options.forget)
        words = "is forgotten" if forgotten.was_known else "has used nothing that is known"
        terminal.say(f"{options.forget} {words}")

    return asked(configured(options), act)


def drawn(report: UsageReport) -> list[str]:
    """The report as the lines of a table."""
    head = [*(name.upper() for name in report.by), "CALLS", "TOKENS", "COST", "CPU", "STORED"]
    table = [[*(row.names[name] or "-" for name in report.by), *_cells(row)] for row in report.rows]
    if len(report.rows) != 1:
        table.append(["total", *[""] * (len(report.by) - 1), *_cells(report.total)])
    names = len(report.by)
    return list(lines([Column(name=name, is_number=at >= names) for at, name in enumerate(head)], table))


def _cells(row: UsageRow) -> tuple[str, ...]:
    marks = "~" * bool(row.estimated_calls) + "?" * bool(row.unpriced_calls)
    cost = f"{row.cost_usd:,.4f} USD{marks}"
    return f"{row.calls:,}", f"{row.tokens:,}", cost, f"{row.cpu_seconds:,.1f} s", f"{row.stored_bytes:,}"
