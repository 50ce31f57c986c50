"""A broker in a thread of the test's process, in memory: for tests of what a socket shows."""

import asyncio
import threading
from collections.abc import Mapping
from types import TracebackType

from broker.config import BrokerConfig, TopicSpec
from broker.server import Server


class ThreadedBroker:
    """Starts on a free port of 127.0.0.1; `server` may be looked at with `call`."""

    def __init__(
        self, topics: Mapping[str, int] = {}, settings: Mapping[str, str] | None = None
    ) -> None:
        given = {"listeners": "PLAINTEXT://127.0.0.1:0", **(settings or {})}
        self._config = BrokerConfig(given)
        self._topics = [TopicSpec(name, count, {}) for name, count in topics.items()]
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.server: Server
        self.loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.server.ports['PLAINTEXT']}"

    def __enter__(self) -> "ThreadedBroker":
        self._thread.start()
        assert self._ready.wait(20), "the broker did not start"
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
        self._thread.join(20)
        assert not self._thread.is_alive(), "the broker did not stop"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to the test
            self._failure = error
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self.server = Server(self._config, memory=True)
        await self.server.start(self._topics)
        self._ready.set()
        await self._ended.wait()
        await self.server.stop()
