"""What every test gets: real gateways, and a check that nothing is left when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pathlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import psutil
import pytest
import pytest_timeout  # type: ignore[import-untyped]

from tests import lasting, postgres, stored
from tests.gateways import RunningGateway, running_gateway
from tests.hostile import card
from tests.patience import crowding

_RINGS: Final = (
    *("deploy", "fuzz", "browser", "acceptance", "docs", "torture", "products"),
    *("integration", "old", "ledger", "gateway", "contract"),
)
"""Folders whose modules last, the longest first; whatever is not named here comes after them."""
_BROWSER: Final = "browser"
_EACH: Final = 3
"""After so many other modules comes one with a browser."""
_NOT_ALONE: Final = "not alone"
"""How `make test` leaves out what measures the machine; no attack of the card is among that."""
_LAST_LONG: Final = {"slow", "real_agent"}
_KERNEL_LISTS_CHILDREN: Final = pathlib.Path("/proc/thread-self/children").exists()


def pytest_configure() -> None:
    """Lets Ctrl-C end what the tests start: a background job of a shell, and all its children, ignore it. And
    says what gateways may store in.
    """
    stored.KINDS["postgresql"] = postgres.gateways_database
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was collected stays to the end, so no collection of garbage has to walk over it again."""
    gc.collect()
    gc.freeze()


DEEPEST: Final = 20_000
"""Levels of folders of attacks, and several calls for each."""
OBJECTED = 6
"""The exit code if the documents quote another card: not that of failed tests, which `tests.again` runs once
more and may find to pass.
"""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts long modules before short ones, so that no process is left alone with a long one at the end, and
    modules with a browser, which keep a processor busy, between those that wait for processes.
    """
    long = {item.path for item in items if any(mark.name in _LAST_LONG for mark in item.iter_markers())}
    ring = {name: number for number, name in enumerate(_RINGS)}
    items.sort(key=lambda item: (item.path not in long, ring.get(item.path.parent.name, len(ring))))
    modules = list(dict.fromkeys(item.path for item in items if item.path not in long))
    with_browser = [path for path in modules if path.parent.name == _BROWSER]
    others = [path for path in modules if path.parent.name != _BROWSER]
    place: dict[pathlib.Path, float] = {path: _EACH * number for number, path in enumerate(with_browser)}
    place |= {path: number + 0.5 for number, path in enumerate(others)}
    items.sort(key=lambda item: place.get(item.path, -1))


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> object:
    """Gives a test on a busy machine more time before it is ended as one that hangs."""
    patient = settings._replace(timeout=settings.timeout * crowding())
    return pytest_timeout.pytest_timeout_set_timer(item, patient)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the card of attacks, if any were tried, and whether the documents quote it."""
    for line in card.lines():
        terminalreporter.write_line(line)
    if words := _objection(terminalreporter.config):
        terminalreporter.write_line(words, red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Ends what lasted, and hands the card of attacks on to the process that prints it, whose run fails if
    the documents quote another one. pytest then removes the folders of earlier runs, level by level: one that
    was killed may have left what an attack had made.
    """
    sys.setrecursionlimit(DEEPEST)
    while lasting.ENDS:
        lasting.ENDS.pop()()
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["card"] = card.CARD
    elif _objection(session.config):
        session.exitstatus = OBJECTED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of the processes of `-n` has ended."""
    card.add(getattr(node, "workeroutput", {}).get("card", {}))


def _objection(config: pytest.Config) -> str | None:
    """What is wrong with the quoted card. A run of some of its tests, or in which one fails, says nothing."""
    options, reporter = config.option, config.pluginmanager.get_plugin("terminalreporter")
    is_part = options.keyword or options.markexpr not in ("", _NOT_ALONE) or getattr(options, "lf", False)
    is_part = is_part or any("::" in argument for argument in config.args)
    reports = [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())] if reporter else []
    has_failed = any(report.nodeid.partition("::")[0].endswith(card.MODULES) for report in reports)
    return card.objection(is_whole=not is_part and not has_failed)


@pytest.fixture
async def gateway(tmp_path: pathlib.Path) -> AsyncIterator[RunningGateway]:
    """A gateway as a stranger starts it."""
    async with running_gateway(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No child process outlives its test; workers of a gateway that a module shares outlive at most the
    module.
    """
    yield from _checked()


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_of_the_module() -> Iterator[None]:
    """No child process outlives its module."""
    yield from _checked()


def _checked() -> Iterator[None]:
    before = _children()
    yield
    new = [child for child in _children() if child not in before and not _descends_from(child, before)]
    new = [child for child in new if not _lasts(child)]
    _, alive = psutil.wait_procs(new, timeout=3 * crowding())
    names = [child.name() for child in alive if child.is_running()]
    assert not names, f"left running: {names}"


def _children() -> set[psutil.Process]:
    """Everything that descends from this process. Asking for that reads every process of the machine, so the
    kernel's list of children is read first: most tests have none.
    """
    return set(psutil.Process().children(recursive=True)) if _has_children() else set()


def _has_children() -> bool:
    if not _KERNEL_LISTS_CHILDREN:
        return True
    for thread in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended, and its children have another parent
            if (thread / "children").read_bytes():
                return True
    return False


def _lasts(child: psutil.Process) -> bool:
    try:
        return bool(lasting.PIDS) and not lasting.PIDS.isdisjoint((child.pid, child.ppid()))
    except psutil.NoSuchProcess:
        return True


def _descends_from(child: psutil.Process, known: set[psutil.Process]) -> bool:
    try:
        return not known.isdisjoint(child.parents())
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """No task outlives a test of something that has a task group."""
    yield
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, left
