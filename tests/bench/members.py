"""Members of groups and transactional producers for the load generator: raw requests, no clients.

A group is formed as clients form it: everybody asks for a member id (KIP-394), joins with it and
waits; the first member, which is the leader, joins again when all others wait, and sends everybody
an assignment.
"""

import select
import struct
import time
from typing import Any

from protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
)
from protocol.messages.describe_groups import DescribeGroupsRequest
from protocol.messages.end_txn import EndTxnRequest
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.heartbeat import HeartbeatRequest
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.bench import network, requests
from tests.kit.server import process_cpu
from tests.kit.wire import Wire, batch, frame

JOIN, SYNC, HEARTBEAT = 7, 5, 4
MEMBER_ID_REQUIRED, CONCURRENT_TRANSACTIONS = 79, 51
SESSION_MS = 300_000
METADATA = bytes(60)
ASSIGNMENT = bytes(80)
PATIENCE = 60.0
BEAT = struct.pack(">iibihb", 12, 0, 0, 0, 0, 0)
"""The answer to a heartbeat of somebody who is well: length, correlation id, tagged fields,
throttle time, error, tagged fields."""


def links(bootstrap: str, count: int) -> list[Wire]:
    """Connections that know their coordinator (it is the only broker)."""
    made = [Wire(bootstrap, timeout=PATIENCE) for _ in range(count)]
    for wire in made:
        network.choose_reno(wire.socket)
    return made


def await_coordinator(wire: Wire, key: str, kind: int) -> None:
    """Until the internal topic is there."""
    end = time.monotonic() + PATIENCE
    while wire.call(FindCoordinatorRequest(key, kind), 2).error_code:
        if time.monotonic() > end:
            raise TimeoutError(f"no coordinator for {key}")


class Group:
    """A group whose member n is on the connection n (counted round from `first`)."""

    def __init__(self, name: str, wires: list[Wire], first: int = 0) -> None:
        self.name = name
        self.wires = wires[first:] + wires[:first]
        self.members = [""] * len(wires)
        self.generation = 0

    def _join(self, number: int) -> JoinGroupRequest:
        protocols = [JoinGroupRequestProtocol("range", METADATA)]
        member = self.members[number]
        return JoinGroupRequest(
            self.name, SESSION_MS, SESSION_MS, member, None, "consumer", protocols
        )

    def begin(self) -> None:
        """Send the first member's request for an id, and then its join."""
        self._ids(0, 1)
        self.wires[0].send(self._join(0), JOIN)

    def _ids(self, first: int, end: int) -> None:
        for number in range(first, end):
            self.wires[number].send(self._join(number), JOIN)
        for number in range(first, end):
            answer = self.wires[number].receive()
            assert answer.error_code == MEMBER_ID_REQUIRED, answer
            self.members[number] = answer.member_id

    def begun(self) -> None:
        """Take the answer to the first member's join, which comes when the delay of a group's
        first rebalance is over; it syncs."""
        answer = self.wires[0].receive()
        assert answer.error_code == 0, answer
        self.generation = answer.generation_id
        self._sync([0], [0])

    def form(self, watcher: Wire) -> None:
        """Everybody else joins the first member; all sync."""
        self._ids(1, len(self.wires))
        self.rebalance(watcher, range(1, len(self.wires)), 0)

    def rebalance(self, watcher: Wire, others: range, last: int) -> None:
        """`others` join, then, when all of them wait, `last`; everybody syncs."""
        for number in others:
            self.wires[number].send(self._join(number), JOIN)
        while len(watcher.call(DescribeGroupsRequest([self.name]), 0).groups[0].members) < len(
            self.wires
        ):
            pass
        self.wires[last].send(self._join(last), JOIN)
        self._joined()

    def again(self) -> None:
        """The leader of a stable group joins again, and everybody follows."""
        for number, wire in enumerate(self.wires):
            wire.send(self._join(number), JOIN)
        self._joined()

    def _joined(self) -> None:
        answers = [wire.receive() for wire in self.wires]
        assert {answer.error_code for answer in answers} == {0}, answers[0]
        (self.generation,) = {answer.generation_id for answer in answers}
        leader = self.members.index(answers[0].leader)
        assert len(answers[leader].members) == len(self.members)
        everybody = range(len(self.members))
        self._sync([leader, *(n for n in everybody if n != leader)], everybody)

    def _sync(self, order: list[int], assigned: Any) -> None:
        """The leader is the first of `order`."""
        given = [SyncGroupRequestAssignment(self.members[n], ASSIGNMENT) for n in assigned]
        for number in order:
            request = SyncGroupRequest(
                self.name, self.generation, self.members[number], None, "consumer", "range", given
            )
            self.wires[number].send(request, SYNC)
            given = []
        for number in order:
            answer = self.wires[number].receive()
            assert (answer.error_code, bytes(answer.assignment)) == (0, ASSIGNMENT), answer

    def heartbeat(self, number: int) -> bytes:
        """The heartbeat of one member."""
        request = HeartbeatRequest(self.name, self.generation, self.members[number])
        return frame(request, HEARTBEAT)


def rebalance(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds in which a group of `members` is formed, and in which it rebalances when stable."""
    with Wire(job["bootstrap"], timeout=PATIENCE) as watcher:
        await_coordinator(watcher, job["topic"], 0)
        group = Group(job["topic"], links(job["bootstrap"], job["members"]))
        group.begin()
        group.begun()
        began = time.perf_counter()
        group.form(watcher)
        formed = time.perf_counter() - began
        began, cpu = time.perf_counter(), process_cpu(job["pid"])
        group.again()
        again, cpu = time.perf_counter() - began, process_cpu(job["pid"]) - cpu
        for wire in group.wires:
            wire.close()
    return {"formed": formed, "again": again, "cpu": cpu}


class Beating:
    """A connection that keeps one heartbeat of each of its members under way."""

    def __init__(self, wire: Wire, beats: bytes, count: int) -> None:
        self.socket = wire.socket
        self.beats = beats
        self.expected = BEAT * count
        self.got = b""

    def send(self) -> None:
        self.socket.sendall(self.beats)

    def read(self) -> bool:
        """Take what came; True when it was the rest of a round."""
        self.got += self.socket.recv(65536)
        if len(self.got) < len(self.expected):
            return False
        if self.got != self.expected:
            raise ConnectionError(f"a heartbeat is refused: {self.got[:60].hex()}")
        self.got = b""
        return True


def heartbeats(job: dict[str, Any]) -> dict[str, Any]:
    """`groups` x `members` members on as many connections as a group has members; CPU and wall
    seconds for each heartbeat, in `runs` windows."""
    wires = links(job["bootstrap"], job["members"])
    with Wire(job["bootstrap"], timeout=PATIENCE) as watcher:
        await_coordinator(watcher, job["topic"], 0)
        groups = [Group(f"{job['topic']}-{n}", wires, n) for n in range(job["groups"])]
        for group in groups:
            group.begin()
        for group in groups:
            group.begun()
        for group in groups:
            group.form(watcher)
    beating = []
    for at, wire in enumerate(wires):
        beats = [g.heartbeat((at - n) % len(wires)) for n, g in enumerate(groups)]
        beating.append(Beating(wire, b"".join(beats), len(beats)))
    rounds = _beat(beating, job)
    for wire in wires:
        wire.close()
    return {"windows": rounds}


def _beat(beating: list[Beating], job: dict[str, Any]) -> list[dict[str, float]]:
    epoll = select.epoll()
    by_number = {b.socket.fileno(): b for b in beating}
    for each in beating:
        each.send()
        epoll.register(each.socket.fileno(), select.EPOLLIN)
    found: list[dict[str, float]] = []
    count, began, cpu = 0, time.monotonic(), process_cpu(job["pid"])
    warm = False
    while len(found) < job["runs"]:
        events = epoll.poll(PATIENCE)
        if not events:
            raise TimeoutError("no answers to heartbeats")
        for number, _ in events:
            each = by_number[number]
            if each.read():
                count += job["groups"]
                each.send()
        now = time.monotonic()
        if now - began >= job["seconds"]:
            used = process_cpu(job["pid"])
            if warm:
                found.append({"cpu": (used - cpu) / count, "wall": (now - began) / count})
            warm, count, began, cpu = True, 0, now, used
    return found


class Transactional:
    """A transactional producer that writes one record to one partition in each transaction."""

    def __init__(self, wire: Wire, topic: str, partition: int, name: str) -> None:
        self.wire = wire
        self.topic, self.partition, self.name = topic, partition, name
        await_coordinator(wire, name, 1)
        while (answer := wire.call(InitProducerIdRequest(name, 60_000), 4)).error_code in (14, 15):
            pass
        assert answer.error_code == 0, answer
        self.id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0

    def begin(self) -> None:
        """Send the whole transaction: partition, record, end."""
        topics = [AddPartitionsToTxnTopic(self.topic, [self.partition])]
        add = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.name,
            v3_and_below_producer_id=self.id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=topics,
        )
        records = batch(
            [requests.RECORD],
            timestamp=requests.now_ms(),
            producer_id=self.id,
            producer_epoch=self.epoch,
            base_sequence=self.sequence,
            attributes=0x10,
        )
        part = PartitionProduceData(index=self.partition, records=memoryview(records))
        data = TopicProduceData(name=self.topic, partition_data=[part])
        self.wire.send(add, 3)
        self.wire.send(ProduceRequest(self.name, -1, 10_000, [data]), 9)
        self.wire.send(EndTxnRequest(self.name, self.id, self.epoch, True), 3)

    def end(self) -> bool:
        """Take the three answers; False when the transaction before was still being completed."""
        (added,) = self.wire.receive().results_by_topic_v3_and_below[0].results_by_partition
        (produced,) = self.wire.receive().responses[0].partition_responses
        ended = self.wire.receive().error_code
        codes = (added.partition_error_code, produced.error_code, ended)
        if added.partition_error_code == CONCURRENT_TRANSACTIONS:
            return False
        assert codes == (0, 0, 0), codes
        self.sequence += 1
        return True


def transactions(job: dict[str, Any]) -> dict[str, Any]:
    """Transactions of one record, `connections` at a time; how many, with what CPU and time."""
    producers = [
        Transactional(wire, job["topic"], number, f"{job['topic']}-{number}")
        for number, wire in enumerate(links(job["bootstrap"], job["connections"]))
    ]
    committed = refused = 0
    began, cpu = time.monotonic(), process_cpu(job["pid"])
    while time.monotonic() - began < job["seconds"]:
        for producer in producers:
            producer.begin()
        for producer in producers:
            if producer.end():
                committed += 1
            else:
                refused += 1
    wall, used = time.monotonic() - began, process_cpu(job["pid"]) - cpu
    for producer in producers:
        producer.wire.close()
    first = producers[0].sequence
    return {"committed": committed, "refused": refused, "cpu": used, "wall": wall, "first": first}
