"""The loop's slices: read back from the kernel, in a process of its own, which cannot take them back."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from gateway.telemetry import processor

KERNEL = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])
READ = """
import ctypes, os, sys, threading
from gateway.telemetry import processor

def read():
    found = processor._Attributes()
    number = processor._SCHED_SETATTR[os.uname().machine] + 1
    ctypes.CDLL(None).syscall(ctypes.c_long(number), 0, ctypes.byref(found), ctypes.sizeof(found), 0)
    return found.runtime, found.nice

os.nice(2)
before, went_first, after = read(), processor.go_first(), read()
others = []
thread = threading.Thread(target=lambda: others.append(read()))
thread.start()
thread.join()
reading, writing = os.pipe()
if not os.fork():
    os.write(writing, repr(read()).encode())
    os._exit(0)
others.append(eval(os.read(reading, 99)))
print([went_first, before, after, *others])
"""

CHOSEN = """
import os
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
from gateway.telemetry import processor
print(processor.go_first(), os.sched_getscheduler(0))
"""


@pytest.mark.skipif(KERNEL < (6, 12), reason="this kernel gives slices of one length only")
def test_the_loop_has_short_slices_and_neither_its_threads_nor_its_processes_do() -> None:
    said = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True).stdout
    went_first, before, after, thread, child = ast.literal_eval(said)
    assert went_first
    assert after == (processor.SLICE_NANOSECONDS, 2)
    assert before[0] > processor.SLICE_NANOSECONDS
    assert thread == child == before


def test_a_policy_that_somebody_chose_stays() -> None:
    words = (sys.executable, "-c", CHOSEN)
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", str(os.SCHED_BATCH)]
