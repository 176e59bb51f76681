"""`agent-gateway mcp`: the tools of applications for a desktop MCP client."""

from __future__ import annotations

import argparse
import os

from gateway.cli import desktop
from gateway.cli.options import add_common, configured, run_by
from gateway.telemetry import logs


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--stdio", action="store_true", required=True, help="over standard input and output")
    parser.add_argument("--session", metavar="NAME", help="go on with the conversation of this name")
    add_common(parser)
    run_by(parser, _mcp)


def _mcp(options: argparse.Namespace) -> int:
    config = configured(options)
    logs.configure(level="warning", form=config.server.log_format)
    os.umask(0o077)
    return desktop.run(config, session=options.session)
