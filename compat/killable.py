"""A reference whose broker can be killed and started again on its data, as tests kill Odradek."""

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from types import TracebackType

from compat.reference import NoReference, Reference

SETTINGS = {
    "3": {"zookeeper.session.timeout.ms": "2000"},
    "4": {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "200"},
}
"""By major version: what is left of a killed broker in ZooKeeper or the quorum is soon gone."""


class Killable:
    """`start`, `kill` and `bootstrap` as `tests.kit.server.Server` has them."""

    def __init__(
        self, version: str, directory: str | os.PathLike[str], settings: Mapping[str, str]
    ) -> None:
        known = {**settings, **SETTINGS[version[0]]}
        self.kafka = Reference(version, directory=directory, settings=known)

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return self.kafka.address

    def __enter__(self) -> "Killable":
        self.kafka.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.kafka.close()

    def kill(self) -> None:
        """SIGKILL for the broker; a ZooKeeper lives on."""
        broker = self.kafka.processes.pop()
        broker.send_signal(signal.SIGKILL)
        broker.wait(30)

    def start(self, timeout: float = 60.0) -> float:
        """Start the broker again; seconds until it answers. Tried anew while its old session in
        ZooKeeper is in its way.
        """
        began = time.monotonic()
        while True:
            self.kafka._java(
                "broker", "kafka.Kafka", str(self.kafka.directory / "broker.properties")
            )
            with contextlib.suppress(NoReference):
                self.kafka.wait()
                return time.monotonic() - began
            if time.monotonic() - began > timeout:
                raise NoReference(f"Apache Kafka did not start again within {timeout} s.")
            self.kafka.processes.pop().wait(30)
