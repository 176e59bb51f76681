"""How much of the processor each test takes: `python -m pytest -p tests.processor tests/gateway`.

The seconds of a test depend on what else the machine does; its seconds of processor hardly do. Everything
that a test starts is counted: gateways, workers, browsers, and what outlives its parent. For that each
process of pytest has a control group of its own. Without the right to make one, only what is waited for is
counted.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final

import pytest

AT_MOST: Final = 40
"""So many modules, and so many tests, are listed."""
_NAME: Final = "processor seconds"


def pytest_configure(config: pytest.Config) -> None:
    """Begins to count in this process."""
    config.pluginmanager.register(Processor(), "processor-of-tests")


class Processor:
    """Adds its processor seconds to each report, and sums them up where the reports arrive."""

    def __init__(self) -> None:
        self._group = _own_group()
        self._now: Callable[[], float] = _of_family if self._group is None else self._of_group
        self._last = self._now()
        self._collecting: dict[str, float] = {}
        self._modules: defaultdict[str, float] = defaultdict(float)
        self._tests: defaultdict[str, float] = defaultdict(float)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        seconds = self._since()
        output = getattr(session.config, "workeroutput", None)
        if output is None:
            self._collecting["here"] = seconds
        else:
            output[_NAME] = seconds

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        report.user_properties.append((_NAME, self._since()))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, seconds in report.user_properties:
            if name == _NAME and isinstance(seconds, float):
                self._tests[report.nodeid] += seconds
                self._modules[report.nodeid.partition("::")[0]] += seconds

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        if (seconds := getattr(node, "workeroutput", {}).get(_NAME)) is not None:
            self._collecting[node.gateway.id] = seconds

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        write(
            f"{_NAME}: {sum(self._modules.values()):.1f} of tests, {_listed(self._collecting)} of collecting"
        )
        for sums in (self._modules, self._tests):
            for name, seconds in sorted(sums.items(), key=lambda item: -item[1])[:AT_MOST]:
                write(f"{seconds:8.2f} {name}")

    def _since(self) -> float:
        before, self._last = self._last, self._now()
        return self._last - before

    def _of_group(self) -> float:
        assert self._group is not None
        usage = (self._group / "cpu.stat").read_text().split()
        return int(usage[usage.index("usage_usec") + 1]) / 1e6


def _own_group() -> pathlib.Path | None:
    """A new control group with this process in it, below the one that it was in; it stays when this ends."""
    mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    roots = [mount[1] for mount in mounts if mount[2] == "cgroup2"]
    own = [
        line[3:]
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()
        if line.startswith("0::")
    ]
    with contextlib.suppress(OSError, IndexError):
        group = pathlib.Path(roots[0]) / own[0].lstrip("/") / f"tests-{os.getpid()}"
        group.mkdir()
        (group / "cgroup.procs").write_text(str(os.getpid()))
        return group
    return None


def _of_family() -> float:
    """Of this process and of those children that it has waited for."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _listed(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.1f}" for value in seconds.values())
