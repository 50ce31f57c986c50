"""A broker process whose metadata is in a real ZooKeeper."""

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.cluster.features import SUPPORTED
from compat import trees
from compat.trees import dump
from protocol.errors import ErrorCode
from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.metadata import MetadataRequest
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.kit import zookeeper
from tests.kit.server import REPOSITORY, Server, StartFailed
from tests.kit.signals import pause
from tests.kit.wire import Wire, batch
from tests.kit.zookeeper import ZooKeeper

SESSION_MS = 4000
"""Long enough for a machine that is busy with other things."""


class Place:
    """Where brokers of one cluster meet: a path on a ZooKeeper server."""

    def __init__(self, server: ZooKeeper, directory: Path) -> None:
        self.server = server
        self.root = zookeeper.chroot()
        self.directory = directory
        self.brokers: list[Server] = []

    def broker(self, name: str = "data", given: Mapping[str, str] | None = None) -> Server:
        """Not started yet. Broker 1 where nothing else is given."""
        settings = {
            "broker.id": "1",
            "zookeeper.connect": self.server.address + self.root,
            "zookeeper.session.timeout.ms": str(SESSION_MS),
            **trees.SMALL,
            **(given or {}),
        }
        arguments = [w for n, v in settings.items() for w in ("--set", f"{n}={v}") if v]
        made = Server(self.directory / name, arguments=arguments)
        self.brokers.append(made)
        return made

    def tree(self) -> trees.Tree:
        return dump(self.server.address, self.root)

    def registration(self, broker_id: int = 1) -> Any:
        return self.tree().get(f"/brokers/ids/{broker_id}")

    def until(self, what: str, holds: "Any", seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"{what}: not in {seconds} s"
            time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(zookeeper.standalone(), tmp_path)
    yield place
    for broker in place.brokers:
        broker.kill()


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[Place]:
    """On a server that the test may kill."""
    server = ZooKeeper(tmp_path / "zookeeper")
    server.start()
    place = Place(server, tmp_path)
    yield place
    for broker in place.brokers:
        broker.kill()
    server.kill()


def create(bootstrap: str, name: str) -> int:
    with Wire(bootstrap, timeout=20) as wire:
        answer = wire.call(CreateTopicsRequest([CreatableTopic(name, 1, 1)], 10_000), 5)
    code: int = answer.topics[0].error_code
    return code


def produce(bootstrap: str, topic: str, value: bytes) -> int:
    """The offset."""
    data = batch([value], timestamp=1)
    request = ProduceRequest(
        acks=-1,
        timeout_ms=5000,
        topic_data=[TopicProduceData(topic, partition_data=[PartitionProduceData(0, data)])],
    )
    with Wire(bootstrap) as wire:
        (answer,) = wire.call(request, 7).responses[0].partition_responses
    assert answer.error_code == ErrorCode.NONE
    offset: int = answer.base_offset
    return offset


def test_the_tree_is_that_of_apache_kafka_after_every_admin_operation(place: Place) -> None:
    recorded = json.loads(gzip.decompress(trees.RECORDED.read_bytes()))
    with place.broker() as broker:
        played = trees.play(broker.bootstrap, place.server.address, place.root)
    assert list(played) == list(recorded)
    for step, tree in recorded.items():
        # What a broker supports is its own: 3.9 has none of the features that Odradek has.
        own = played[step]["/brokers/ids/1"]["data"].pop("features")
        assert set(own) == set(SUPPORTED)
        assert tree["/brokers/ids/1"]["data"].pop("features") == {}
        assert played[step] == tree, step


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
def test_kcat_from_end_to_end(place: Place) -> None:
    with place.broker() as broker:
        kcat = ["kcat", "-b", broker.bootstrap]
        lines = b"".join(b"key%d:value%d\n" % (n, n) for n in range(1000))
        subprocess.run(
            [*kcat, "-P", "-t", "letters", "-K:", "-z", "snappy"],
            input=lines,
            check=True,
            timeout=30,
        )
        read = [*kcat, "-C", "-t", "letters", "-K:", "-e", "-q"]
        got = subprocess.run(read, capture_output=True, check=True, timeout=30)
        assert got.stdout == lines
        listed = subprocess.run([*kcat, "-L"], capture_output=True, check=True, timeout=30)
        assert f"broker 1 at {broker.bootstrap} (controller)" in listed.stdout.decode()
        broker.stop()
        assert broker.start() < 5, "a broker that was stopped leaves nothing to wait for"
        got = subprocess.run(read, capture_output=True, check=True, timeout=30)
        assert got.stdout == lines


def test_a_killed_broker_waits_for_the_end_of_its_session(place: Place) -> None:
    broker = place.broker()
    broker.start()
    assert create(broker.bootstrap, "t") == ErrorCode.NONE
    assert produce(broker.bootstrap, "t", b"a") == 0
    before = place.tree()
    broker.kill()
    assert place.registration() is not None
    assert broker.start() < SESSION_MS / 1000 + 3
    assert "broker 1 is registered by an earlier session" in broker.log_text()
    assert produce(broker.bootstrap, "t", b"b") == 1
    after = place.tree()
    assert after["/controller_epoch"]["data"] == "2"
    assert before.keys() == after.keys()
    assert before["/cluster/id"] == after["/cluster/id"]


def test_a_second_broker_of_the_same_id_is_refused(place: Place) -> None:
    with place.broker(given={"zookeeper.session.timeout.ms": "30000"}) as first:
        twin = place.broker("twin", {"zookeeper.session.timeout.ms": "1000"})
        with pytest.raises(StartFailed, match="a broker with id 1 is registered already"):
            twin.start()
        assert "Traceback" not in twin.log_text()
        assert create(first.bootstrap, "t") == ErrorCode.NONE


def test_a_second_broker_at_the_same_address_is_refused(place: Place) -> None:
    with place.broker() as first:
        given = {
            "broker.id": "2",
            "zookeeper.connect": place.server.address + place.root,
            "listeners": "PLAINTEXT://127.0.0.1:0",
            "advertised.listeners": f"PLAINTEXT://{first.bootstrap}",
            "log.dirs": str(place.directory / "twin"),
        }
        words = [w for n, v in given.items() for w in ("--set", f"{n}={v}")]
        command = [sys.executable, "-m", "broker", "start", *words]
        twin = subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=30)
        assert twin.returncode == 1
        assert twin.stderr.decode().endswith(
            f"odradek: {first.bootstrap} is advertised by another broker of this cluster.\n"
        )
        assert place.registration(2) is None


def test_brokers_without_an_id_take_one(place: Place) -> None:
    given = {"broker.id": "", "reserved.broker.max.id": "70"}
    with place.broker("a", given) as first:
        assert place.registration(71) is not None
        first.stop()
        first.start()
        assert place.registration(71) is not None
        with place.broker("b", given):
            assert place.registration(72) is not None
    assert place.tree()["/brokers/seqid"]["version"] == 2


def test_no_zookeeper_no_broker(tmp_path: Path) -> None:
    connect = {"zookeeper.connect": "127.0.0.1:1", "zookeeper.connection.timeout.ms": "300"}
    arguments = [w for n, v in connect.items() for w in ("--set", f"{n}={v}")]
    broker = Server(tmp_path / "data", arguments=arguments)
    with pytest.raises(StartFailed, match=r"127\.0\.0\.1:1 did not answer within 300 ms"):
        broker.start()
    assert "Traceback" not in broker.log_text()


def test_a_broker_serves_while_zookeeper_is_away(frail: Place) -> None:
    broker = frail.broker()
    broker.start()
    assert create(broker.bootstrap, "t") == ErrorCode.NONE
    registered = frail.registration()
    frail.server.kill()
    for number in range(5):
        assert produce(broker.bootstrap, "t", b"x") == number
        time.sleep(0.1)
    with Wire(broker.bootstrap, timeout=30) as wire:
        # It waits for ZooKeeper; the connection is another one.
        wire.send(CreateTopicsRequest([CreatableTopic("late", 1, 1)], 20_000), 5)
        assert produce(broker.bootstrap, "t", b"x") == 5
        frail.server.start()
        (answer,) = wire.receive().topics
    assert answer.error_code == ErrorCode.NONE
    assert produce(broker.bootstrap, "late", b"x") == 0
    # Nothing was registered anew: the session has survived.
    assert frail.registration() == registered
    assert frail.tree()["/controller_epoch"]["data"] == "1"


def test_a_broker_that_slept_too_long_registers_again_and_is_elected_again(place: Place) -> None:
    broker = place.broker()
    broker.start()
    assert create(broker.bootstrap, "t") == ErrorCode.NONE
    assert broker.process is not None
    pause(broker.process)
    place.until("the session ends", lambda: place.registration() is None)
    broker.process.send_signal(signal.SIGCONT)
    place.until("the broker is back", lambda: place.registration() is not None)
    place.until(
        "it is elected", lambda: place.tree().get("/controller_epoch", {}).get("data") == "2"
    )
    place.until("it creates topics", lambda: create(broker.bootstrap, "u") == ErrorCode.NONE)
    assert produce(broker.bootstrap, "u", b"x") == 0
    with Wire(broker.bootstrap) as wire:
        assert wire.call(MetadataRequest(None), 5).controller_id == 1
    state = place.tree()["/brokers/topics/u/partitions/0/state"]["data"]
    assert state["controller_epoch"] == 2
    assert "Traceback" not in broker.log_text()
