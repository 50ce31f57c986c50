"""Stock clients over kill -9: members and transactions go on, and internal topics stay small."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.heartbeat import HeartbeatRequest
from protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from protocol.messages.offset_fetch import OffsetFetchRequest
from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.corpus import Item, base_timestamp
from tests.e2e.members import KINDS, Member, Place, Watch
from tests.e2e.members.producers import PRODUCERS
from tests.e2e.members.python_kafka import refused_connections
from tests.e2e.settings import arguments
from tests.kit.server import Server
from tests.kit.wire import Wire

SESSION_MS = 2000
SEGMENT = 10_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    small = arguments(
        offsets_topic_num_partitions="2",
        offsets_topic_segment_bytes=str(SEGMENT),
        transaction_state_log_num_partitions="2",
        transaction_state_log_segment_bytes=str(SEGMENT),
        log_cleaner_backoff_ms="50",
    )
    with refused_connections(), Server(tmp_path / "data", arguments=small) as running:
        yield running


def fill(bootstrap: str, topic: str, first: int, count: int) -> None:
    """Records b"first", ... to both partitions."""
    numbers = range(first, first + count)
    items = [Item(p, base_timestamp(), None, b"%d" % n) for n in numbers for p in (0, 1)]
    Confluent(bootstrap).produce(topic, items)


def test_members_go_on_without_a_rebalance(server: Server) -> None:
    """Groups of every kind: nobody gives up a partition, also not when sessions would be over."""
    watches = {kind: Watch() for kind in KINDS}
    with ExitStack() as stack:
        for kind, watch in watches.items():
            Confluent(server.bootstrap).create_topic(kind, 2)
            fill(server.bootstrap, kind, 0, 5)
            members = [_member(server, kind, watch, name) for name in ("a", "b")]
            for member in members:
                stack.enter_context(member)
            watch.until(watch.shared(members, [(kind, 0), (kind, 1)]), "both own a partition")
        for kind, watch in watches.items():
            watch.until(lambda w=watch, k=kind: w.committed == both(k, 5), "all is committed")
        moves = {kind: list(watch.moves) for kind, watch in watches.items()}
        server.kill()
        server.start()
        # two sessions long: members that did not go on with their heartbeats would be removed
        end, written = time.monotonic() + 2 * SESSION_MS / 1000, 5
        while time.monotonic() < end:
            for kind, watch in watches.items():
                fill(server.bootstrap, kind, written, 1)
                watch.until(
                    lambda w=watch, k=kind, n=written: w.committed == both(k, n + 1), "it goes on"
                )
            written += 1
        assert {kind: watch.moves for kind, watch in watches.items()} == moves


def _member(server: Server, kind: str, watch: Watch, name: str) -> Member:
    make, way = KINDS[kind]
    more = {"way": way, "commits": "each", "session_ms": SESSION_MS}
    return make(server.bootstrap, f"group-{kind}", [kind], watch, name, **more)


def both(topic: str, offset: int) -> dict[Place, int]:
    return {(topic, 0): offset, (topic, 1): offset}


@pytest.mark.parametrize("kind", PRODUCERS)
def test_a_transaction_goes_on(server: Server, kind: str) -> None:
    """What was sent before and after the kill is committed together, with its offsets."""
    Confluent(server.bootstrap).create_topic("topic", 2)
    client = Confluent(server.bootstrap)
    producer = PRODUCERS[kind](server.bootstrap, "id")
    try:
        producer.begin()
        producer.send(("topic", 0), b"before")
        producer.send_offsets("group", {("topic", 0): 3})
        server.kill()
        server.start()
        assert client.group_offsets("group") == {}
        producer.send(("topic", 0), b"after")
        producer.commit()
        end = time.monotonic() + 20
        while client.group_offsets("group") != {("topic", 0): 3}:
            assert time.monotonic() < end
        got = client.consume("topic", {0: -2}, 2, committed=True)
        assert [item.value for item in got] == [b"before", b"after"]
    finally:
        producer.close()


def test_internal_topics_stay_small(server: Server) -> None:
    """Tens of thousands of commits of a few offsets, hundreds of transactions of two ids."""
    Confluent(server.bootstrap).create_topic("topic", 8)
    producers = [PRODUCERS["confluent"](server.bootstrap, f"id-{n}") for n in range(2)]
    with Wire(server.bootstrap) as wire:
        end = time.monotonic() + 20
        while (found := wire.call(FindCoordinatorRequest("group"), 2)).error_code or commit(
            wire, 0
        ):
            assert time.monotonic() < end, found
        for hundred in range(30):
            for number in range(100):
                send_commit(wire, 100 * hundred + number)
            for _ in range(100):
                assert committed_error(wire.receive()) == 0
    for number in range(100):
        for producer in producers:
            producer.begin()
            producer.send(("topic", number % 8), b"x")
            producer.commit()
    for producer in producers:
        producer.close()
    # some 2 MB and 70 KB were written
    for topic in ("__consumer_offsets", "__transaction_state"):
        end = time.monotonic() + 30
        # the active segments of two partitions, and what was left of the others
        while (size := bytes_of(server, topic)) > 4 * SEGMENT:
            assert time.monotonic() < end, f"{topic} takes {size} bytes"
    server.kill()
    server.start()
    with Wire(server.bootstrap) as wire:
        assert fetched(wire) == dict.fromkeys(range(8), 2999)


def send_commit(wire: Wire, offset: int) -> None:
    rows = [OffsetCommitRequestPartition(index, offset) for index in range(8)]
    topics = [OffsetCommitRequestTopic("topic", partitions=rows)]
    wire.send(OffsetCommitRequest("group", topics=topics), 8)


def commit(wire: Wire, offset: int) -> int:
    send_commit(wire, offset)
    return committed_error(wire.receive())


def committed_error(answer: object) -> int:
    (code,) = {p.error_code for p in answer.topics[0].partitions}  # type: ignore[attr-defined]
    return int(code)


def fetched(wire: Wire) -> dict[int, int]:
    end = time.monotonic() + 20
    while (answer := wire.call(OffsetFetchRequest("group", None), 7)).error_code in (14, 15, 16):
        assert time.monotonic() < end, answer
    return {p.partition_index: p.committed_offset for p in answer.topics[0].partitions}


def bytes_of(server: Server, topic: str) -> int:
    """What the topic's logs take, deleted segments and indexes aside."""
    folders = Path(server.data_dir).glob(f"{topic}-*")
    return sum(file.stat().st_size for folder in folders for file in folder.glob("*.log"))


def test_a_member_that_died_with_the_broker_is_removed(server: Server) -> None:
    """Sessions run on after a restart; who stays silent gives its partitions to the others."""
    Confluent(server.bootstrap).create_topic("topic", 2)
    watch = Watch()
    places = [("topic", 0), ("topic", 1)]
    with confluent_member(server, watch, "stays") as stays:
        with confluent_member(server, watch, "dies", instance="static") as dies:
            watch.until(watch.shared([stays, dies], places), "both own a partition")
            server.kill()
            dies.leave()
        server.start()
        # a static member that was closed is silent, but not gone until its session is over
        watch.until(watch.shared([stays], places), "all partitions are with the one that lives")
    with Wire(server.bootstrap) as wire:
        assert wire.call(HeartbeatRequest("group", 1, "anybody"), 3).error_code == 25


def confluent_member(
    server: Server, watch: Watch, name: str, instance: str | None = None
) -> Member:
    make, way = KINDS["confluent"]
    return make(
        server.bootstrap,
        "group",
        ["topic"],
        watch,
        name,
        way=way,
        instance=instance,
        session_ms=SESSION_MS,
    )
