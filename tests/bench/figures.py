"""A measured figure, the broker it is measured at, and what all cases need."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from protocol.messages.delete_topics import DeleteTopicsRequest
from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from tests.kit.server import REPOSITORY
from tests.kit.wire import Wire

GB = 1e9
MB = 1e6
JOB_SECONDS = 120.0


@dataclass(slots=True)
class Figure:
    """One measured figure with its budget; lower is better."""

    name: str
    unit: str
    budget: float | None
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.values)

    @property
    def ok(self) -> bool:
        """Whether the median keeps the budget."""
        return self.budget is None or self.median <= self.budget


@dataclass(slots=True)
class Target:
    """A broker under load: where it listens and whose CPU counts."""

    bootstrap: str
    pid: int

    def job(self, kind: str, topic: str, **more: Any) -> dict[str, Any]:
        """Run one job of the load generator; its result."""
        job = {"job": kind, "bootstrap": self.bootstrap, "pid": self.pid, "topic": topic, **more}
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.load"],
            input=json.dumps(job).encode(),
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            timeout=JOB_SECONDS,
            check=True,
        )
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def create(
        self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None
    ) -> None:
        """Make a topic."""
        entries = [
            CreatableTopicConfig(name=name, value=value) for name, value in (configs or {}).items()
        ]
        new = CreatableTopic(
            name=topic, num_partitions=partitions, replication_factor=1, configs=entries
        )
        with Wire(self.bootstrap, timeout=30) as wire:
            answer = wire.call(CreateTopicsRequest(topics=[new], timeout_ms=30_000), 7)
            assert [t.error_code for t in answer.topics] == [0], answer
            end = time.monotonic() + JOB_SECONDS
            # other brokers lead a moment after they answered
            while self._end(wire, topic).error_code and time.monotonic() < end:
                time.sleep(0.01)

    def delete(self, topic: str) -> None:
        """Delete a topic, so that its page cache can be used again."""
        request = DeleteTopicsRequest(topic_names=[topic], timeout_ms=30_000)
        with Wire(self.bootstrap, timeout=30) as wire:
            wire.call(request, 5)

    def end_offset(self, topic: str) -> int:
        """The log end of partition 0."""
        with Wire(self.bootstrap) as wire:
            return int(self._end(wire, topic).offset)

    @staticmethod
    def _end(wire: Wire, topic: str) -> Any:
        asked = ListOffsetsTopic(
            name=topic, partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)]
        )
        answer = wire.call(ListOffsetsRequest(topics=[asked]), 5)
        return answer.topics[0].partitions[0]


def touch_pages(folder: Path, size: int = 3 << 30) -> None:
    """Write and delete a scratch file, so that the page cache of the runs is memory that the host
    has backed before: on virtual machines the first touch of a page costs more than the broker.
    """
    room = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    block = bytes(1 << 20)
    scratch = folder / "scratch"
    with open(scratch, "wb", buffering=0) as file:
        for _ in range(min(size, room) >> 20):
            file.write(block)
    scratch.unlink()


_names = iter(range(1 << 30))


def new_topic(word: str) -> str:
    """A topic name for one run."""
    return f"bench-{word}-{time.time_ns() // 1000}-{next(_names)}"
