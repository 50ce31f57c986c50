"""Transactions over kill -9: what was open, decided or on its way is so after the restart."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.describe_transactions import DescribeTransactionsRequest
from tests.broker.transactions.client import (
    Producer,
    Row,
    fetch_request,
    read,
    values_of,
)
from tests.kit.server import Server
from tests.kit.wire import ConnectionClosed, NoAnswer, Wire

TOPIC = "orders"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    # Small segments: markers, data and transaction indexes are spread over several.
    settings = (
        "--set",
        "log.segment.bytes=2000",
        "--set",
        "transaction.state.log.num.partitions=3",
    )
    with Server(tmp_path / "data", arguments=settings) as running:
        with Wire(running.bootstrap) as wire:
            answer = wire.call(CreateTopicsRequest([CreatableTopic(TOPIC, 2, 1)], 5000), 5)
            assert answer.topics[0].error_code == 0
        yield running


def killed(server: Server) -> None:
    server.kill()
    server.start()


def test_an_open_transaction_goes_on(server: Server) -> None:
    with Producer(server.bootstrap, "t") as me:
        me.begin()
        assert me.send(TOPIC, b"before") == Row(0, 0, 0)
    killed(server)
    with Producer(server.bootstrap, "t") as again, Wire(server.bootstrap) as reader:
        again.become(*me.me)
        again.sequences = me.sequences
        assert read(reader, TOPIC) == []
        assert again.send(TOPIC, b"after") == Row(0, 1, 0)
        assert again.send(TOPIC, b"beside", index=1) == Row(0, 0, 0)
        assert again.end() == 0
        again.settle()
        assert read(reader, TOPIC) == [b"before", b"after"]
        assert read(reader, TOPIC, index=1) == [b"beside"]


def test_its_time_out_too(server: Server) -> None:
    with Producer(server.bootstrap, "t", timeout=100) as me:
        me.begin()
        assert me.send(TOPIC, b"before").error == 0
        server.kill()
    server.start()
    with Producer(server.bootstrap, "t") as again, Wire(server.bootstrap, timeout=30) as reader:
        answer = reader.call(fetch_request(TOPIC, wait_ms=25_000), 11)
        assert values_of(answer) == []
        assert answer.responses[0].partitions[0].last_stable_offset == 2
        again.become(*me.me)
        assert again.send(TOPIC, b"after").error == 47
        assert again.init(expected=again.me) == 0
        assert again.send(TOPIC, b"after").error == 0
        assert again.end() == 0
        again.settle()
        assert read(reader, TOPIC) == [b"after"]


def test_a_new_producer_fences_over_a_restart(server: Server) -> None:
    with Producer(server.bootstrap, "t") as me:
        me.begin()
        assert me.send(TOPIC, b"lost").error == 0
    killed(server)
    with Producer(server.bootstrap, "t") as heir, Wire(server.bootstrap) as reader:
        heir.begin()
        assert heir.me == (me.producer_id, me.epoch + 2)
        assert heir.send(TOPIC, b"kept").error == 0
        assert heir.end() == 0
        heir.settle()
        assert read(reader, TOPIC) == [b"kept"]


def test_what_was_aborted_stays_so(server: Server) -> None:
    """Transactions of several producers, over many segments, with one still open."""
    chance = random.Random(7)
    kept: list[bytes] = []
    everything: list[bytes] = []
    producers = [Producer(server.bootstrap, f"t{n}").begin() for n in range(4)]
    for number in range(60):
        me = producers[number % 3]
        values = [b"%d-%d" % (number, n) for n in range(chance.randrange(1, 4))]
        assert me.send(TOPIC, *values, b"x" * 100).error == 0
        everything += [*values, b"x" * 100]
        commit = chance.random() < 0.5
        assert me.end(commit) == 0
        me.settle()
        if commit:
            kept += [*values, b"x" * 100]
    with Wire(server.bootstrap) as reader:
        assert read(reader, TOPIC) == kept
    assert producers[3].send(TOPIC, b"open").error == 0
    for _ in range(2):
        killed(server)
        with Wire(server.bootstrap) as reader:
            assert read(reader, TOPIC) == kept
            assert read(reader, TOPIC, committed=False) == [*everything, b"open"]
    for me in producers:
        me.wire.close()


def test_killed_at_any_moment(server: Server) -> None:
    """Committed is what the producer was told; a commit that it was not told of is either."""
    chance = random.Random(20240917)
    certain: list[bytes] = []
    open_ends: list[bytes] = []
    number = 0
    for _ in range(6):
        with Producer(server.bootstrap, "t") as me:
            killer = threading.Timer(chance.uniform(0.0, 0.15), server.kill)
            killer.start()
            value = b""
            try:
                me.begin()
                while True:
                    number += 1
                    value = b"%d" % number
                    assert me.send(TOPIC, value, index=number % 2).error == 0
                    commit = chance.random() < 0.7
                    assert me.end(commit) == 0
                    if commit:
                        certain.append(value)
                    value = b""
            except (ConnectionClosed, NoAnswer, OSError):
                if value:
                    open_ends.append(value)
        killer.join()
        server.start()
    with Producer(server.bootstrap, "t") as me, Wire(server.bootstrap) as reader:
        me.begin()
        me.settle()
        seen = read(reader, TOPIC) + read(reader, TOPIC, index=1)
        assert len(seen) == len(set(seen))
        assert set(certain) <= set(seen) <= {*certain, *open_ends}
        states = reader.call(DescribeTransactionsRequest(["t"]), 0).transaction_states
        assert states[0].transaction_state == "Empty"
    assert len(certain) > 20
