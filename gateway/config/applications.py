"""Applications: what each of them declares, how they are found, and which of them this gateway runs.

The three that come along are found without being installed; every other one, and they too, by entry points of
the group `agent_gateway.applications`. All that are installed are known: their tables of the configuration
may be written down, and the facts of theirs in a log are read, whether they run or not.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.metadata
import logging
import os
import pathlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.config.tables import BUILT_IN, AgentConfig, Config, Table
from gateway.config.webhook import CORE_EVENTS
from gateway.errors import GatewayError
from gateway.events import facts
from gateway.events.fold import FoldPart

log = logging.getLogger(__name__)

GROUP: Final = "agent_gateway.applications"
SHIPPED: Final = {
    "shop": "gateway.apps.shop.application:APPLICATION",
    "shopping_assistant": "gateway.apps.shopping_assistant.application:APPLICATION",
    "product_chat": "gateway.apps.product_chat.application:APPLICATION",
}
"""Those that come along, and that run unless `[applications] enabled` says otherwise."""
_PACKAGES: Final = (".dist-info", ".egg-info", "EGG-INFO")
"""How the folders end that hold what is known of a package."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


class OwnAgent(Struct, frozen=True, kw_only=True):
    """An agent that an application brings along: the built-in one, with tools of the application."""

    title: str
    config: AgentConfig


class Outliving(Struct, frozen=True, kw_only=True):
    """A table whose rows are a session's and outlive its row: a restore erases them for sessions that were
    deleted after the backup.
    """

    table: str
    owner: str = "owner"
    session: str = "session_id"
    """The column with the session's id."""
    made_at: str = "created_at"
    """The column that says when a row was made, in milliseconds since 1970."""


class Application(Struct, frozen=True, kw_only=True):
    """What an application declares. `open` and `keep` may be named as "module:function", to be imported only
    by a gateway that runs.
    """

    name: str
    open: Callable[[Any], Any] | str
    """Makes its faces: `extension.Context` → `extension.Faces`. The store is not open yet."""
    table: str = ""
    """Its table of the configuration, which its `settings` describe."""
    settings: type[Table] | None = None
    mistakes: Callable[[Config], list[str]] = lambda _config: []
    """Settings of the right type that cannot be, each in words. Asked only if it runs."""
    paths: tuple[str, ...] = ()
    """Its settings that are paths: `table.name`."""
    from_files: tuple[str, ...] = ()
    """Its settings, as `table.name`, that a file may hold instead, which the setting `name_file` names."""
    secrets: tuple[str, ...] = ()
    """Names of settings that are never shown."""
    facts: tuple[type[facts.ApplicationFact], ...] = ()
    fold: Callable[[], FoldPart] | None = None
    """A new part of the fold of one log."""
    errors: tuple[type[GatewayError], ...] = ()
    migrations: pathlib.Path | None = None
    """The folder with its tables: NNNN_name.sql, run in order, each once."""
    outliving: tuple[Outliving, ...] = ()
    keep: Callable[[Any], Any] | str | None = None
    """An observer over its tables (`stores.database.Tables`) that moves and erases what they hold. It is
    called even if the application is switched off, as long as it has rows.
    """
    tools: tuple[str, ...] = ()
    """The names of its toolsets, which an agent's `tools` names."""
    agents: Mapping[str, OwnAgent] = {}
    examine: Callable[[Any], Any] | str = ""
    """For `agent-gateway doctor`: awaited with the configuration, it says what is well (True) and what is
    not, each in words.
    """
    needs: tuple[str, ...] = ()
    """Applications that it is built on: it does not run without them."""
    webhook_events: tuple[str, ...] = ()
    """The events that it has for the webhook (`Context.notify`), such as `chat.opened`."""


class _Found(Struct, frozen=True):
    applications: dict[str, Application]
    broken: dict[str, str]
    """Why an application cannot be loaded, by its name."""


@functools.cache
def _found() -> _Found:
    places = dict(SHIPPED)
    if _may_name_others():
        for point in importlib.metadata.entry_points(group=GROUP):
            places.setdefault(point.name, point.value)
    found = _Found({}, {})
    for name, place in places.items():
        try:
            found.applications[name] = _checked(name, pkgutil.resolve_name(place), found.applications)
        except Exception as error:  # an application of somebody else: whatever it raises
            found.broken[name] = f"{type(error).__name__}: {error}"
            log.error("the application %s cannot be loaded: %s", name, found.broken[name])
    return found


def _may_name_others() -> bool:
    """Whether an installed package may have applications. Only then are entry points asked for: what reads
    them takes as much memory as an application, and is not loaded before (telemetry/hollow.py).
    """
    finders = (finder for finder in sys.meta_path if finder is not importlib.machinery.PathFinder)
    if any(hasattr(finder, "find_distributions") for finder in finders):
        return True
    return any(map(_names_others, sys.path))


def _names_others(folder: str) -> bool:
    """Whether a package in a folder has entry points of the group beside `SHIPPED`; an archive may."""
    try:
        with os.scandir(folder or ".") as entries:
            packages = [entry.path for entry in entries if entry.name.endswith(_PACKAGES)]
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return any(name not in SHIPPED for package in packages for name in _names_in(package))


def _names_in(package: str) -> Iterator[str]:
    """The names of its entry points of the group."""
    with contextlib.suppress(OSError):
        text = pathlib.Path(package, "entry_points.txt").read_text(errors="replace")
        section = ""
        for line in map(str.strip, text.splitlines()) if GROUP in text else ():
            if line.startswith("["):
                section = line.strip("[] ")
            elif section == GROUP and "=" in line:
                yield line.partition("=")[0].strip()


def _checked(name: str, application: object, others: Mapping[str, Application]) -> Application:
    """The application, with its facts made known. Raises ValueError."""
    if not isinstance(application, Application) or application.name != name or not _NAME.fullmatch(name):
        raise ValueError(f"its entry point {name!r} does not name an Application that is called so")
    tables = {*Config.__struct_fields__, *(other.table for other in others.values() if other.table)}
    if application.table in tables:
        raise ValueError(f"its table [{application.table}] is somebody else's")
    facts.register(*application.facts)
    return application


def installed() -> Mapping[str, Application]:
    """Every application that can be loaded, by its name."""
    return _found().applications


def enabled(config: Config) -> list[Application]:
    """The applications that run, each behind those that it needs."""
    named = SHIPPED if config.applications.enabled is None else config.applications.enabled
    wanted = [application for name, application in installed().items() if name in named]
    ordered: list[Application] = []
    while ready := [one for one in wanted if one not in ordered and _is_ready(one, ordered)]:
        ordered += ready
    return ordered


def _is_ready(application: Application, others: Iterable[Application]) -> bool:
    return set(application.needs) <= {other.name for other in others}


def own_agents(config: Config) -> dict[str, OwnAgent]:
    """The agents that the applications which run bring along, by name."""
    return {name: agent for one in enabled(config) for name, agent in one.agents.items()}


def agent_names(config: Config) -> tuple[str, ...]:
    """Every agent that there is."""
    return (BUILT_IN, *own_agents(config), *config.agents)


def tool_names(config: Config) -> tuple[str, ...]:
    """The toolsets of the applications that run."""
    return tuple(name for one in enabled(config) for name in one.tools)


def tables() -> dict[str, type[Table]]:
    """The tables of the configuration that applications describe."""
    return {one.table: one.settings for one in installed().values() if one.settings is not None}


def mistakes(config: Config) -> list[str]:
    """What is wrong with `[applications]`, with the tables of those that run, and with what the webhook is to
    hear of them.
    """
    found = []
    named, names = config.applications.enabled or (), ", ".join(installed())
    for name in named:
        if name in _found().broken:
            found.append(f"applications.enabled: {name} cannot be loaded ({_found().broken[name]})")
        elif name not in installed():
            found.append(f"applications.enabled: there is no application {name!r}; there are: {names}")
        elif one := installed()[name]:
            found += [
                f"applications.enabled: {name} needs {other}, which is not named"
                for other in one.needs
                if other not in named
            ]
    known = (*CORE_EVENTS, *(event for one in enabled(config) for event in one.webhook_events))
    found += [
        f"webhook.events: there is no event {event!r}; there are: {', '.join(known)}"
        for event in config.webhook.events
        if event not in known
    ]
    return found + [mistake for one in enabled(config) for mistake in one.mistakes(config)]


def resolved(place: Callable[[Any], Any] | str) -> Callable[[Any], Any]:
    """A function that may be named by its place."""
    found: Callable[[Any], Any] = pkgutil.resolve_name(place) if isinstance(place, str) else place
    return found
