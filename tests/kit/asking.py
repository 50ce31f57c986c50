"""Short words for a script client's requests that several tests send: produce, transactions,
offsets, and everything a broker says of the data it keeps.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from protocol.errors import ErrorCode
from protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
)
from protocol.messages.describe_groups import DescribeGroupsRequest
from protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from protocol.messages.describe_transactions import DescribeTransactionsRequest
from protocol.messages.end_txn import EndTxnRequest
from protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, PartitionData
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.heartbeat import HeartbeatRequest
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from protocol.messages.list_groups import ListGroupsRequest
from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from protocol.messages.list_transactions import ListTransactionsRequest
from protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
)
from protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    TopicProduceData,
)
from protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from tests.kit.wire import Wire

GROUP, TRANSACTION = 0, 1
LATEST, EARLIEST, LARGEST = -1, -2, -3
CONSUMER, DEBUGGER = -1, -2
FETCH_BYTES = 1 << 20
SETTLE_S = 30.0
TRANSIENT = frozenset(
    {
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
    }
)
"""What a client asks again after."""

Place = tuple[str, int]


def patiently(ask: Callable[[], Any], code: Callable[[Any], int]) -> Any:
    """The first answer whose error code does not mean: ask again."""
    end = time.monotonic() + SETTLE_S
    while True:
        answer = ask()
        if code(answer) not in TRANSIENT:
            return answer
        assert time.monotonic() < end, answer
        time.sleep(0.05)


def produce(
    wire: Wire, place: Place, records: bytes, *, transactional_id: str | None = None
) -> PartitionProduceResponse:
    """One batch with acks=all to its leader; what became of it."""
    topic, partition = place
    data = TopicProduceData(topic, partition_data=[PartitionProduceData(partition, records)])
    request = ProduceRequest(transactional_id, -1, 20_000, [data])
    answer = patiently(
        lambda: wire.call(request, 9), lambda a: a.responses[0].partition_responses[0].error_code
    )
    found: PartitionProduceResponse = answer.responses[0].partition_responses[0]
    return found


def fetch(wire: Wire, place: Place, offset: int, *, committed: bool = False) -> PartitionData:
    """One fetch from a leader."""
    topic, partition = place
    wanted = FetchPartition(partition, -1, offset, partition_max_bytes=FETCH_BYTES)
    topics = [FetchTopic(topic, partitions=[wanted])]
    request = FetchRequest(
        max_wait_ms=100, max_bytes=FETCH_BYTES, isolation_level=int(committed), topics=topics
    )
    answer = patiently(
        lambda: wire.call(request, 12), lambda a: a.responses[0].partitions[0].error_code
    )
    found: PartitionData = answer.responses[0].partitions[0]
    assert found.error_code == ErrorCode.NONE, found
    return found


def offset_at(
    wire: Wire, place: Place, timestamp: int, *, committed: bool = False, replica: int = CONSUMER
) -> Any:
    """ListOffsets of one partition at its leader, or for `replica` DEBUGGER at any replica:
    (error, timestamp, offset, leader epoch).
    """
    topic, partition = place
    wanted = [ListOffsetsTopic(topic, [ListOffsetsPartition(partition, timestamp=timestamp)])]
    request = ListOffsetsRequest(replica, int(committed), wanted)
    answer = patiently(
        lambda: wire.call(request, 7), lambda a: a.topics[0].partitions[0].error_code
    )
    found = answer.topics[0].partitions[0]
    return found.error_code, found.timestamp, found.offset, found.leader_epoch


def coordinator(wire: Wire, key: str, kind: int = GROUP) -> int:
    """Id of the broker that coordinates a group or a transactional id (a `kind`)."""
    request = FindCoordinatorRequest(key, kind)
    answer = patiently(lambda: wire.call(request, 3), lambda a: a.error_code)
    assert answer.error_code == ErrorCode.NONE, answer
    return int(answer.node_id)


def new_producer(
    wire: Wire, transactional_id: str | None = None, timeout_ms: int = 60_000
) -> tuple[int, int]:
    """A producer's id and epoch."""
    request = InitProducerIdRequest(transactional_id, timeout_ms)
    answer = patiently(lambda: wire.call(request, 2), lambda a: a.error_code)
    assert answer.error_code == ErrorCode.NONE, answer
    return answer.producer_id, answer.producer_epoch


class Transaction:
    """A transactional producer of raw batches, with its id and epoch, at one broker that
    coordinates it and leads what it writes to.
    """

    def __init__(self, wire: Wire, name: str, timeout_ms: int = 600_000) -> None:
        self.name = name
        self.producer_id, self.epoch = new_producer(wire, name, timeout_ms)

    def add(self, wire: Wire, *places: Place) -> None:
        """Partitions become part of the transaction."""
        topics = [AddPartitionsToTxnTopic(topic, [index]) for topic, index in places]
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.name,
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=topics,
        )
        answer = patiently(
            lambda: wire.call(request, 3),
            lambda a: (
                a.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
            ),
        )
        for topic in answer.results_by_topic_v3_and_below:
            assert not any(p.partition_error_code for p in topic.results_by_partition), answer

    def commit_offset(self, wire: Wire, group: str, place: Place, offset: int) -> None:
        """An offset that holds when the transaction is committed."""
        add = AddOffsetsToTxnRequest(self.name, self.producer_id, self.epoch, group)
        answer = patiently(lambda: wire.call(add, 3), lambda a: a.error_code)
        assert answer.error_code == ErrorCode.NONE, answer
        topics = [
            TxnOffsetCommitRequestTopic(
                place[0],
                partitions=[
                    TxnOffsetCommitRequestPartition(place[1], offset, committed_metadata="txn")
                ],
            )
        ]
        request = TxnOffsetCommitRequest(
            self.name, group, self.producer_id, self.epoch, topics=topics
        )
        answer = patiently(
            lambda: wire.call(request, 3), lambda a: a.topics[0].partitions[0].error_code
        )
        assert answer.topics[0].partitions[0].error_code == ErrorCode.NONE, answer

    def end(self, wire: Wire, commit: bool) -> None:
        """Commit or abort; returns when the markers are written."""
        request = EndTxnRequest(self.name, self.producer_id, self.epoch, commit)
        answer = patiently(lambda: wire.call(request, 3), lambda a: a.error_code)
        assert answer.error_code == ErrorCode.NONE, answer
        wanted = "CompleteCommit" if commit else "CompleteAbort"
        end = time.monotonic() + SETTLE_S
        while (found := self.state(wire).transaction_state) != wanted:
            assert time.monotonic() < end, found
            time.sleep(0.02)

    def state(self, wire: Wire) -> Any:
        """As the coordinator describes it."""
        request = DescribeTransactionsRequest([self.name])
        answer = patiently(
            lambda: wire.call(request, 0), lambda a: a.transaction_states[0].error_code
        )
        return answer.transaction_states[0]


def commit_offsets(
    wire: Wire, group: str, offsets: Mapping[Place, int], metadata: str = ""
) -> None:
    """Offsets of a group without members."""
    topics = [
        OffsetCommitRequestTopic(
            topic,
            partitions=[OffsetCommitRequestPartition(index, offset, committed_metadata=metadata)],
        )
        for (topic, index), offset in offsets.items()
    ]
    request = OffsetCommitRequest(group, topics=topics)
    answer = patiently(
        lambda: wire.call(request, 8), lambda a: a.topics[0].partitions[0].error_code
    )
    assert not any(p.error_code for t in answer.topics for p in t.partitions), answer


class GroupMember:
    """The only member of a classic group, which it joins when it is made."""

    def __init__(self, wire: Wire, group: str, session_ms: int = 300_000) -> None:
        self.group = group
        protocols = [JoinGroupRequestProtocol("range", b"subscription")]
        join = JoinGroupRequest(
            group, session_ms, 60_000, protocol_type="test", protocols=protocols
        )
        # The first answer is the member id to come back with (KIP-394).
        join.member_id = patiently(lambda: wire.call(join, 5), lambda a: a.error_code).member_id
        joined = wire.call(join, 5)
        assert joined.error_code == ErrorCode.NONE, joined
        self.member_id: str = joined.member_id
        self.generation: int = joined.generation_id
        assigned = [SyncGroupRequestAssignment(self.member_id, b"assignment")]
        synced = wire.call(SyncGroupRequest(group, self.generation, self.member_id, None,
                                            assignments=assigned), 3)  # fmt: skip
        assert synced.error_code == ErrorCode.NONE, synced

    def heartbeat(self, wire: Wire) -> int:
        """The error code of one heartbeat."""
        request = HeartbeatRequest(self.group, self.generation, self.member_id)
        return int(patiently(lambda: wire.call(request, 3), lambda a: a.error_code).error_code)


# --- all that is kept -----------------------------------------------------------------------------


def partition_kept(wire: Wire, place: Place, times: Sequence[int], epochs: int) -> dict[str, Any]:
    """What the leader of a partition says of its log: batches, offsets, epochs, producers.

    `times`: timestamps to look up; `epochs`: leader epochs from 0 on to ask the ends of.
    """
    start = offset_at(wire, place, EARLIEST)
    end = offset_at(wire, place, LATEST)
    first = fetch(wire, place, start[2], committed=True)
    return {
        "start": start,
        "end": end,
        "stable": offset_at(wire, place, LATEST, committed=True),
        "largest": offset_at(wire, place, LARGEST),
        "times": {at: offset_at(wire, place, at) for at in times},
        "watermarks": (first.high_watermark, first.last_stable_offset, first.log_start_offset),
        "batches": _batches(wire, place, start[2], end[2]),
        "aborted": [asdict(each) for each in first.aborted_transactions or []],
        "epochs": _epochs(wire, place, epochs),
        "producers": _producers(wire, place),
    }


def _batches(wire: Wire, place: Place, offset: int, end: int) -> bytes:
    """All batches from an offset on, as they are sent."""
    found = b""
    while offset < end:
        data = fetch(wire, place, offset)
        whole = whole_batches(bytes(data.records or b""))
        if not whole:
            break  # what is left was compacted away
        found += whole
        offset = next_offset(whole)
    return found


def whole_batches(data: bytes) -> bytes:
    """Without the part of a batch at the end."""
    at = 0
    while at + 12 <= len(data):
        size = 12 + int.from_bytes(data[at + 8 : at + 12], "big")
        if at + size > len(data):
            break
        at += size
    return data[:at]


def next_offset(batches: bytes) -> int:
    """The offset after the last of some whole batches (magic 2)."""
    at = last = 0
    while at < len(batches):
        last, at = at, at + 12 + int.from_bytes(batches[at + 8 : at + 12], "big")
    base = int.from_bytes(batches[last : last + 8], "big")
    return base + int.from_bytes(batches[last + 23 : last + 27], "big") + 1


def _epochs(wire: Wire, place: Place, count: int) -> list[tuple[int, int, int]]:
    """(error, epoch, end offset) for each epoch from 0 on."""
    found = []
    for epoch in range(count):
        wanted = [OffsetForLeaderTopic(place[0], [OffsetForLeaderPartition(place[1], -1, epoch)])]
        answer = wire.call(OffsetForLeaderEpochRequest(-1, wanted), 4)
        one = answer.topics[0].partitions[0]
        found.append((one.error_code, one.leader_epoch, one.end_offset))
    return found


def _producers(wire: Wire, place: Place) -> list[dict[str, Any]]:
    answer = wire.call(DescribeProducersRequest([TopicRequest(place[0], [place[1]])]), 0)
    (one,) = answer.topics[0].partitions
    assert one.error_code == ErrorCode.NONE, one
    return sorted((asdict(p) for p in one.active_producers), key=lambda p: p["producer_id"])


def coordinators_keep(
    wire: Wire, groups: Sequence[str], transactional_ids: Sequence[str]
) -> dict[str, Any]:
    """What a broker that coordinates all of them says of groups, offsets and transactions."""
    wanted = [OffsetFetchRequestGroup(group, topics=None) for group in groups]
    offsets = patiently(
        lambda: wire.call(OffsetFetchRequest(groups=wanted), 8),
        lambda a: max(g.error_code for g in a.groups),
    )
    states = patiently(
        lambda: wire.call(DescribeTransactionsRequest(list(transactional_ids)), 0),
        lambda a: max(t.error_code for t in a.transaction_states),
    )
    described = wire.call(DescribeGroupsRequest(list(groups)), 5)
    listed = wire.call(ListGroupsRequest(), 4)
    transactions = wire.call(ListTransactionsRequest(), 0)
    return {
        "offsets": {g.group_id: _sorted(asdict(g)["topics"]) for g in offsets.groups},
        "groups": {g.group_id: _group(g) for g in described.groups},
        "listed": sorted(map(str, listed.groups)),
        "transactions": {t.transactional_id: _transaction(t) for t in states.transaction_states},
        "listed transactions": sorted(map(str, transactions.transaction_states)),
    }


def _sorted(topics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for topic in topics:
        topic["partitions"].sort(key=lambda p: p["partition_index"])
    return sorted(topics, key=lambda t: str(t["name"]))


def _group(group: Any) -> dict[str, Any]:
    """Members' bytes are views of the answer, which `asdict` cannot copy."""
    return {
        "state": (group.error_code, group.group_state),
        "protocol": (group.protocol_type, group.protocol_data),
        "members": sorted(
            (m.member_id, m.client_id, m.client_host, bytes(m.member_metadata),
             bytes(m.member_assignment))
            for m in group.members
        ),
    }  # fmt: skip


def _transaction(state: Any) -> dict[str, Any]:
    found = asdict(state)
    found["topics"] = sorted((t["topic"], sorted(t["partitions"])) for t in found["topics"])
    return found
