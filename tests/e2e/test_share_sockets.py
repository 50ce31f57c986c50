"""Share groups over sockets: kill -9, after which members go on, what was acknowledged stays so and
records have been delivered as often as before, as with Apache Kafka 4.4.0; connections that end."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from protocol.errors import ErrorCode
from protocol.messages import share_acknowledge, share_fetch
from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from tests.kit.server import Server
from tests.kit.wire import Wire, batch

GROUP, TOPIC, MEMBER = "g", "orders", "a" * 22
GROUPS = 32
ACCEPT, RELEASE, REJECT = [1], [2], [3]
NOT_YET = (
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
)
Acks = Iterable[tuple[int, int, Sequence[int]]]


class Member:
    """One member of the group, on one connection."""

    def __init__(
        self, wire: Wire, epoch: int = 0, topic_id: bytes = bytes(16), name: str = MEMBER
    ) -> None:
        self.wire = wire
        self.name = name
        self.epoch = epoch
        self.topic_id = topic_id
        self.session = 0

    def create(self) -> None:
        request = CreateTopicsRequest([CreatableTopic(TOPIC, 1, 1)], 5000)
        (topic,) = self.wire.call(request, 7).topics
        assert topic.error_code == 0
        self.topic_id = topic.topic_id
        earliest = AlterableConfig("share.auto.offset.reset", 0, "earliest")
        resources = [AlterConfigsResource(GROUPS, GROUP, [earliest])]
        answer = self.wire.call(IncrementalAlterConfigsRequest(resources), 1)
        assert answer.responses[0].error_code == 0
        batches = [batch([b"1", b"2", b"3"], timestamp=1) for _ in range(4)]
        for data in batches:
            rows = [TopicProduceData(TOPIC, partition_data=[PartitionProduceData(0, data)])]
            produced = self.wire.call(ProduceRequest(None, -1, 5000, rows), 9)
            assert produced.responses[0].partition_responses[0].error_code == 0

    def beat(self) -> Any:
        """A heartbeat, once the group has its coordinator."""
        find = FindCoordinatorRequest(coordinator_keys=[GROUP])
        while self.wire.call(find, 6).coordinators[0].error_code in NOT_YET:
            pass
        topics = [TOPIC] if self.epoch == 0 else None
        request = ShareGroupHeartbeatRequest(GROUP, self.name, self.epoch, None, topics)
        while (answer := self.wire.call(request, 1)).error_code in NOT_YET:
            pass
        assert answer.error_code == 0
        self.epoch = answer.member_epoch
        return answer

    def join(self) -> None:
        """Until the partition is assigned."""
        while True:
            answer = self.beat()
            if answer.assignment is not None and answer.assignment.topic_partitions:
                return

    def fetch(self, wait_ms: int = 10_000) -> list[tuple[int, int, int]]:
        """(first, last, delivery count) of what is acquired."""
        topics = []
        if self.session == 0:
            partitions = [share_fetch.FetchPartition(0)]
            topics = [share_fetch.FetchTopic(self.topic_id, partitions)]
        request = share_fetch.ShareFetchRequest(
            GROUP,
            self.name,
            self.session,
            wait_ms,
            1,
            max_records=500,
            batch_size=500,
            topics=topics,
        )
        answer = self.wire.call(request, 2)
        assert answer.error_code == 0
        self.session += 1
        rows = [row for topic in answer.responses for row in topic.partitions]
        assert all(row.error_code == 0 for row in rows), rows
        return [
            (a.first_offset, a.last_offset, a.delivery_count)
            for row in rows
            for a in row.acquired_records
        ]

    def acknowledge(self, acks: Acks) -> int:
        """The partition's code."""
        batches = [share_acknowledge.AcknowledgementBatch(*one) for one in acks]
        partitions = [share_acknowledge.AcknowledgePartition(0, batches)]
        topics = [share_acknowledge.AcknowledgeTopic(self.topic_id, partitions)]
        request = share_acknowledge.ShareAcknowledgeRequest(
            GROUP, self.name, self.session, topics=topics
        )
        answer = self.wire.call(request, 2)
        assert answer.error_code == 0
        self.session += 1
        return int(answer.responses[0].partitions[0].error_code)


SETTINGS = ["group.share.delivery.count.limit=3", "group.share.assignment.interval.ms=0"]
ARGUMENTS = [word for setting in SETTINGS for word in ("--set", setting)]


def test_what_is_left_of_a_share_group(tmp_path: Path) -> None:
    with Server(tmp_path / "data", arguments=ARGUMENTS) as server, ExitStack() as stack:

        def wire() -> Wire:
            return stack.enter_context(Wire(server.bootstrap, timeout=20))

        member = Member(wire())
        member.create()
        member.join()
        assert member.fetch() == [(0, 11, 1)]
        acks = [(0, 1, ACCEPT), (2, 2, REJECT), (3, 4, RELEASE), (6, 6, ACCEPT)]
        assert member.acknowledge(acks) == 0
        assert member.fetch() == [(3, 4, 2)]
        assert member.acknowledge([(3, 3, RELEASE)]) == 0
        assert member.fetch() == [(3, 3, 3)]
        assert member.acknowledge([(3, 3, RELEASE)]) == 0  # for the last time
        server.kill()
        server.start()
        again = Member(wire(), member.epoch, member.topic_id)
        again.beat()
        assert again.epoch == member.epoch
        assert again.fetch() == [(4, 4, 2), (5, 5, 1), (7, 11, 1)]
        assert again.fetch(0) == []
        # What it had before the crash and was given again counts; all at once does not.
        assert again.acknowledge([(4, 11, ACCEPT)]) == ErrorCode.INVALID_RECORD_STATE
        assert again.acknowledge([(4, 5, ACCEPT), (7, 11, ACCEPT)]) == 0
        server.kill()
        server.start()
        last = Member(wire(), member.epoch, member.topic_id)
        last.beat()
        assert last.fetch(200) == []


def test_a_connection_that_ends(tmp_path: Path) -> None:
    """What its member had goes to who waits for it, long before the lock ends."""
    with (
        Server(tmp_path / "data", arguments=ARGUMENTS) as server,
        Wire(server.bootstrap, timeout=20) as wire,
        Wire(server.bootstrap, timeout=20) as another,
    ):
        member = Member(wire)
        member.create()
        member.join()
        assert member.fetch() == [(0, 11, 1)]
        other = Member(another, topic_id=member.topic_id, name="b" * 22)
        assert other.fetch(100) == []
        wire.close()
        assert other.fetch() == [(0, 11, 2)]
        assert other.acknowledge([(0, 11, ACCEPT)]) == 0
