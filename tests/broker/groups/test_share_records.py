"""The records of a share group, byte by byte those that Apache Kafka 4.4.0 wrote.

captured/share-records.json.gz: a group of two members on a topic of two partitions. They join, go,
the offset of partition 1 is set, all offsets are deleted, then the group. Each record as [key,
value, timestamp].
"""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

from broker.cluster.view import ClusterView, PartitionInfo, TopicInfo
from broker.config import BrokerConfig
from broker.coordinator import StoredRecord, Waiting
from broker.groups.common import Caller
from broker.groups.machine import GroupMachine
from protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from tests.broker.groups.script import VirtualTimers

CAPTURED = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "captured/share-records.json.gz").read_bytes())
)
RECORDS = [
    (StoredRecord(bytes.fromhex(key), None if value is None else bytes.fromhex(value)), at_ms)
    for key, value, at_ms in CAPTURED["groups"]
]
GROUP, TOPIC = CAPTURED["group"], CAPTURED["topic"]
TOPIC_ID = bytes.fromhex(CAPTURED["topic_id"])
A, B = "A" * 22, "B" * 22
LEAVE = -1


class _Play:
    """A machine that has to write the captured records, one after the other."""

    def __init__(self) -> None:
        partitions = tuple(PartitionInfo(index, 0, 0, (0,), (0,)) for index in range(2))
        view = ClusterView(
            0, "cluster", 0, {}, {TOPIC: TopicInfo(TOPIC, TOPIC_ID, partitions)}, {TOPIC_ID: TOPIC}
        )
        self.machine = GroupMachine(
            0, VirtualTimers(lambda _: None), BrokerConfig(), lambda: view, str
        )
        self.at = 0
        self.epochs = {A: 0, B: 0}

    @property
    def now_ms(self) -> int:
        """When the next record was written."""
        return RECORDS[self.at][1]

    def wrote(self, records: Iterable[StoredRecord], count: int) -> None:
        written = list(records)
        assert written == [record for record, _ in RECORDS[self.at : self.at + count]]
        self.at += count
        for record in written:
            self.machine.replay(*record, -1, -1, 0)

    def beat(
        self, member: str, count: int, epoch: int | None = None, rack: str | None = None
    ) -> None:
        epoch = self.epochs[member] if epoch is None else epoch
        topics = [TOPIC] if epoch == 0 else None
        request = ShareGroupHeartbeatRequest(GROUP, member, epoch, rack, topics)
        caller = Caller("script", "/127.0.0.1", 1)
        outcome = self.machine.share.heartbeat(request, caller, Waiting(str), self.now_ms)
        self.wrote(outcome.records, count)
        self.epochs[member] = outcome.replies[0][1].member_epoch


def test_byte_by_byte() -> None:
    play = _Play()
    machine, states = play.machine, play.machine.share.states
    both = {TOPIC_ID: [0, 1]}
    play.beat(A, 6)
    play.wrote(states.initialized(GROUP, both).records, 1)
    play.beat(A, 4)
    play.beat(B, 6, rack="r1")
    play.beat(A, 1)
    play.beat(B, 4, LEAVE)
    play.beat(A, 5, LEAVE)
    play.wrote(states.alter_offsets(GROUP, {TOPIC_ID: {1: 5}}, play.now_ms)[0], 1)
    play.wrote(states.initialized(GROUP, {TOPIC_ID: [1]}).records, 1)
    records, going = states.begin_offset_deletion(GROUP, [TOPIC], lambda *_: None)
    assert {topic: sorted(indexes) for topic, indexes in going.items()} == both
    play.wrote(records, 1)
    play.wrote(states.offsets_deleted(GROUP, [TOPIC_ID]).records, 1)
    records, going = states.begin_deletion(GROUP)
    assert going == {}
    play.wrote(records, 1)
    play.wrote(machine.offsets.delete_group(GROUP)[1], 3)
    assert play.at == len(RECORDS)
    assert machine.shared.groups == {}
