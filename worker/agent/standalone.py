"""The built-in agent started by itself, with a model endpoint of its own: the same agent over asyncio.

Only here and in `model.EndpointModel` asyncio is imported, and only when AGENT_MODEL_URL asks for it.
Guarantee: what `worker.agent.loop.Loop` guarantees, with an asyncio loop running under it.
"""

from __future__ import annotations

import asyncio
import os
import selectors
from typing import Final

from worker.agent.agent import BuiltInAgent
from worker.agent.loop import Loop, Peer, Wait
from worker.agent.model import EndpointModel

TIMER_SLACK_SECONDS: Final = 0.001
"""asyncio may fire a timer a clock tick early; ours would then find nothing due."""


class AsyncioLoop(Loop):
    """`Loop` driven by asyncio's callbacks instead of its own poll."""

    async def serve(self, peer: Peer) -> None:
        """Serves until stdin ends or stdout's reader has gone."""
        self._asyncio = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._asyncio.add_reader(self._stdin, self._on_readable, peer)
        await self._ended.wait()
        self._asyncio.remove_reader(self._stdin)
        self._flush_last()

    def sleep(self, seconds: float) -> Wait:
        wait = super().sleep(seconds)
        self._asyncio.call_later(seconds + TIMER_SLACK_SECONDS, self.fire_timers)
        return wait

    def write(self, data: bytes) -> None:
        super().write(data)
        if self._unsent:
            self._asyncio.add_writer(self._stdout, self._on_writable)

    def leave(self) -> None:
        super().leave()
        self._ended.set()

    def _on_readable(self, peer: Peer) -> None:
        if not self.read(peer):
            self.leave()

    def _on_writable(self) -> None:
        self.flush()
        if not self._unsent:
            self._asyncio.remove_writer(self._stdout)
        self.fire_timers()


def serve(stdin_fd: int, stdout_fd: int) -> int:
    """Serves ACP with the model that the environment names; returns the exit code."""
    loop = AsyncioLoop(stdin_fd, stdout_fd)
    agent = BuiltInAgent(loop, endpoint=EndpointModel.from_environment(os.environ))
    # poll, because epoll takes no regular file: `python -m worker < prompts.jsonl` is a fair way to try it.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
        runner.run(loop.serve(agent))
    return 0
