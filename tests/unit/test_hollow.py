"""Packages of which only some modules are loaded: whoever wants more of them does not notice."""

from __future__ import annotations

import subprocess
import sys

LIGHT = """
import sys
from gateway.telemetry import hollow
for name, places in hollow.HOLLOW.items():
    hollow.hollow(name, places)
import gateway.cli.serve
from uvicorn.lifespan.off import LifespanOff
"""
HEAVY = {"click", "multiprocessing", "http.server", "wsgiref", "uvicorn.main", "tarfile", "aiohttp", "argon2"}
WHOLE = """
import prometheus_client, uvicorn
from uvicorn import Config, Server, run
from prometheus_client import *
assert Config is sys.modules["uvicorn.config"].Config and callable(uvicorn.main)
assert Counter is sys.modules["prometheus_client.metrics"].Counter and generate_latest
try:
    uvicorn.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
else:
    raise SystemExit("a name that there is not")
"""

LATER = """
import threading
started = threading.Barrier(8)
found = []
def ask(name, attribute):
    started.wait()
    found.append(getattr(sys.modules[name], attribute))
asked = [("zipfile", "ZipFile"), ("http.client", "HTTPConnection"), ("pickle", "dumps"), ("html", "escape")]
asked *= 2
threads = [threading.Thread(target=ask, args=one) for one in asked]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(found) == 8 and len(set(found)) == 4, found
import http.client, urllib.request, csv, html.entities, webbrowser
from zipfile import ZipFile, BadZipFile
assert http.client.HTTPConnection in found and ZipFile in found and html.entities.html5 and webbrowser.open
assert csv.writer and "__getattr__" not in vars(sys.modules["zipfile"])
"""


def python(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_a_gateway_starts_without_what_it_never_uses() -> None:
    loaded = set(python(LIGHT + "print(*sys.modules)").split())
    assert "gateway.server.server" in loaded
    assert not loaded & HEAVY


def test_a_gateway_starts_without_what_libraries_import_and_do_not_use() -> None:
    code = "print(*(name for name in hollow.HOLLOW if '__getattr__' not in vars(sys.modules[name])))"
    assert python(LIGHT + code).split() == []


def test_a_module_that_is_used_after_all_is_loaded_once_by_all_threads() -> None:
    assert python(LIGHT + LATER) == ""


def test_whoever_asks_for_more_of_a_package_gets_all_of_it() -> None:
    assert python(LIGHT + WHOLE) == ""
