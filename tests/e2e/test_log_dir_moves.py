"""A broker process is killed again and again while its replicas move to other directories."""

import time
from collections.abc import Callable
from pathlib import Path

from protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from tests.e2e.load import Load
from tests.kit.server import Server
from tests.kit.wire import Wire

TOPIC = "moving"
PARTITIONS = 2
BROKER_RESOURCE = 4
ROUNDS = 2
DESCRIBE_DIRS = 4
Places = dict[tuple[int, bool], tuple[str, int]]


class TwoDirectories(Server):
    """A broker whose logs are in `a` and `b` below its directory."""

    @property
    def directories(self) -> list[str]:
        return [str(self.data_dir / name) for name in ("a", "b")]

    def command(self) -> list[str]:
        line = super().command()
        at = line.index("--data-dir")
        return [*line[:at], *line[at + 2 :], "--set", f"log.dirs={','.join(self.directories)}"]

    def places(self) -> Places:
        """(partition, whether future) -> (directory, lag)."""
        with Wire(self.bootstrap) as wire:
            answer = wire.call(DescribeLogDirsRequest(topics=None), DESCRIBE_DIRS)
        return {
            (p.partition_index, p.is_future_key): (result.log_dir, p.offset_lag)
            for result in answer.results
            for topic in result.topics
            if topic.name == TOPIC
            for p in topic.partitions
        }

    def move(self, index: int, path: str) -> None:
        topics = [AlterReplicaLogDirTopic(TOPIC, [index])]
        with Wire(self.bootstrap) as wire:
            answer = wire.call(AlterReplicaLogDirsRequest([AlterReplicaLogDir(path, topics)]), 2)
        assert [p.error_code for t in answer.results for p in t.partitions] == [0]

    def rate(self, limit: int) -> None:
        """Bytes a second that may be moved."""
        name = "replica.alter.log.dirs.io.max.bytes.per.second"
        resource = AlterConfigsResource(
            BROKER_RESOURCE, "0", [AlterableConfig(name, 0, str(limit))]
        )
        with Wire(self.bootstrap) as wire:
            answer = wire.call(IncrementalAlterConfigsRequest([resource]), 1)
        assert answer.responses[0].error_code == 0


def until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what}: not in {seconds} s"
        time.sleep(0.01)


def test_moves_go_on_after_kills_and_nothing_is_lost(tmp_path: Path) -> None:
    arguments = ["--topic", f"{TOPIC}:{PARTITIONS}", "--set", "log.segment.bytes=1048576"]
    broker = TwoDirectories(tmp_path / "data", arguments=arguments)
    broker.start()
    load = Load(broker, TOPIC, PARTITIONS)
    try:
        load.go_on()
        for number in range(ROUNDS):
            # Held up, so that the kill comes in the middle: of copying, or near the swap.
            broker.rate(1 if number % 2 else 1 << 40)
            targets: dict[int, str] = {}
            for (index, _), (path, _) in broker.places().items():
                targets[index] = next(d for d in broker.directories if d != path)
                broker.move(index, targets[index])
            if number % 2:
                load.go_on(50)
                assert any(future for _, future in broker.places())
            broker.kill()
            broker.start()
            load.go_on(50)
            broker.rate(1 << 40)
            wanted = {(i, False): path for i, path in targets.items()}
            until(
                lambda wanted=wanted: (  # type: ignore[misc]
                    {key: path for key, (path, _) in broker.places().items()} == wanted
                ),
                "the replicas are where they should be",
            )
            load.go_on(50)
        load.stop()
        load.check()
    finally:
        broker.kill()
    left = [
        entry.name
        for path in broker.directories
        for entry in Path(path).iterdir()
        if entry.name.startswith(TOPIC) and not entry.name.endswith("-delete")
    ]
    assert sorted(left) == [f"{TOPIC}-{index}" for index in range(PARTITIONS)]
