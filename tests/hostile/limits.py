"""Tries to use more than it may, and says how far it came: `limits.py PROCESSES BYTES`.

Prints a line of JSON for each limit as soon as it knows: what was tried is in a child, since the kernel may
end who tried. A limit that the kernel holds is seen by trying only: no number tells of a control group.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

PROCESSES, BYTES = int(sys.argv[1]), int(sys.argv[2])


def say(name: str, *, is_reached: bool, words: str) -> None:
    sys.stdout.write(json.dumps({name: {"reached" if is_reached else "held": words}}) + "\n")
    sys.stdout.flush()


def processes() -> None:
    made: list[int] = []
    try:
        while len(made) <= PROCESSES:
            pid = os.fork()
            if pid == 0:
                time.sleep(600)
            made.append(pid)
    except OSError as error:
        say("processes", is_reached=False, words=f"{len(made)}: {error.strerror}")
    else:
        say("processes", is_reached=True, words=f"{len(made)} and more")
    for pid in made:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def memory() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            held = bytearray(2 * BYTES)
            held[::4096] = b"x" * len(held[::4096])
        except MemoryError:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    say("memory", is_reached=status == 0, words=f"status {status}")


processes()
memory()
