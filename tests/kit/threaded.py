"""Brokers in a thread of the test's process: `Threaded` for whatever is served in a loop
of its own, `ThreadedBroker` for one broker in memory, for tests of what a socket shows.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from broker.config import BrokerConfig, TopicSpec
from broker.server import Server


class Threaded(ABC):
    """A context: entered when what it serves is ready, left when that has ended."""

    def __init__(self, patience_s: float) -> None:
        """`patience_s`: how long a start or an end may take."""
        self._patience_s = patience_s
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(self._patience_s), "it did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(self._patience_s)
        assert not self._thread.is_alive(), "it did not stop"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 - told to the test
            self._failure = error
            self._ready.set()

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        await self._serve()

    async def _until_the_end(self) -> None:
        """It is ready; returns when the test is over."""
        self._ready.set()
        await self._ended.wait()

    @abstractmethod
    async def _serve(self) -> None:
        """Start, `_until_the_end`, stop."""


class ThreadedBroker(Threaded):
    """Starts on a free port of 127.0.0.1; `server` may be looked at with `call`."""

    def __init__(
        self, topics: Mapping[str, int] = {}, settings: Mapping[str, str] | None = None
    ) -> None:
        given = {"listeners": "PLAINTEXT://127.0.0.1:0", **(settings or {})}
        self._config = BrokerConfig(given)
        self._topics = [TopicSpec(name, count, {}) for name, count in topics.items()]
        super().__init__(20)
        self.server: Server

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.server.ports['PLAINTEXT']}"

    async def _serve(self) -> None:
        self.server = Server(self._config, memory=True)
        await self.server.start(self._topics)
        await self._until_the_end()
        await self.server.stop()
