"""Another client that goes on working while a test misbehaves: it must notice nothing."""

import threading
import time
from types import TracebackType

from protocol.messages.metadata import MetadataRequest
from tests.kit.wire import Wire

SLOWEST = 5.0
"""Seconds that one request may take; generous, because the machine is shared."""


class Probe:
    """Asks Metadata on a connection of its own, one request after the other, in a thread."""

    def __init__(self, bootstrap: str) -> None:
        self.wire = Wire(bootstrap)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.times: list[float] = []
        self.first = threading.Event()
        self.failure: Exception | None = None

    def _ask(self) -> None:
        try:
            while not self.ending.wait(0.002):
                began = time.monotonic()
                answer = self.wire.call(MetadataRequest(topics=[]), 9)
                self.times.append(time.monotonic() - began)
                self.first.set()
                assert answer.brokers
        except Exception as error:  # noqa: BLE001 - raised again at the end
            self.failure = error

    def __enter__(self) -> "Probe":
        self.thread.start()
        assert self.first.wait(10), f"the broker does not serve at all: {self.failure}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ending.set()
        self.thread.join(20)
        self.wire.close()
        if kind is None:
            if self.failure is not None:
                raise self.failure
            assert max(self.times) < SLOWEST, f"another client waited {max(self.times):.2f} s"
