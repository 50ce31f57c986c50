"""Control requests against what Apache Kafka answered to the same bytes.

`control-3.9.2`: everything that the controllers of two recorded runs (three brokers, IBP 3.9 and
2.6) told each broker, with its answers; here the broker is ours, with real logs in memory. Kafka
answers in the order of a hash table, so order is not compared. `control-hand-3.9.2`: requests made
by hand, every version, also wrong ones, one broker with epoch 25 and controller epoch 1.
"""

import gzip
import itertools
import json
from collections.abc import Iterator
from importlib import import_module
from inspect import isawaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.cluster.configs import ConfigStore
from broker.cluster.view import MetadataCache
from broker.context import Context, Node
from broker.control import ControlPlane
from broker.controller.elect import Election, Wish, elect
from broker.controller.run import NotController
from broker.controller.service import Elected
from broker.controller.state import State
from broker.controller.topics import Refused
from broker.replicas import ReplicaManager
from protocol.apis import API_BY_KEY, request_class, response_class
from protocol.compiler import decoder, encoder
from protocol.errors import ErrorCode
from protocol.header import decode_request_header, response_header_version
from storage.config import LogConfig
from storage.filesystem import FileSystem, MemoryFileSystem
from storage.manager import LogManager
from tests.kit.nodes import FakeClock

CAPTURED = Path(__file__).parent / "captured"


def rows(name: str) -> list[dict[str, Any]]:
    lines = gzip.decompress((CAPTURED / name).read_bytes()).splitlines()
    return [json.loads(line) for line in lines]


RUNS = rows("control-3.9.2.jsonl.gz")
BY_HAND = rows("control-hand-3.9.2.jsonl.gz")


class Configs:
    """Topic settings are of no account here."""

    async def ensure_topics(self, names: Any) -> None:
        list(names)

    def forget_topic(self, name: str) -> None:
        return None


def broker(broker_id: int, fs: FileSystem, epoch: int) -> Node:
    """A broker that has just started on what is in its directory."""
    node, clock = Node(), FakeClock()
    logs = LogManager(fs, ["/d"], LogConfig(), broker_id=broker_id, cluster_id="c")
    logs.load({}, 0)
    logs._release()
    node.broker_id, node.clock, node.logs = broker_id, clock, logs
    node.metadata = MetadataCache("c")
    node.replicas = ReplicaManager(broker_id, logs, node.metadata, lambda _: LogConfig(), clock)
    configs = cast(ConfigStore, Configs())
    node.control = ControlPlane(node.replicas, node.metadata, configs, lambda: epoch)
    return node


def parse(row: dict[str, Any]) -> tuple[Any, Any]:
    """(request, answer) of a recorded exchange."""
    key, version = row["api"], row["version"]
    request, response = bytes.fromhex(row["request"]), bytes.fromhex(row["response"])
    asked, _ = decoder(request_class(key), version)(request, decode_request_header(request, 0)[1])
    at = 5 if response_header_version(key, version) else 4
    answered, end = decoder(response_class(key), version)(response, at)
    assert end == len(response)
    return asked, answered


async def answer(node: Node, row: dict[str, Any], request: Any) -> Any:
    """Our answer as the asker's version shows it."""
    key, version = row["api"], row["version"]
    handler = import_module(f"broker.handlers.{API_BY_KEY[key].stem}")
    context = Context("c", "PLAINTEXT", "127.0.0.1")
    context.api_key, context.version = key, version
    result = handler.handle(node, context, request)
    response = await result if isawaitable(result) else result
    out = bytearray()
    encoder(type(response), version)(response, out)
    return decoder(type(response), version)(bytes(out), 0)[0]


def plain(message: Any) -> Any:
    """A message in a form that does not know order, nor sentences (only their presence)."""
    if isinstance(message, list):
        return sorted((plain(item) for item in message), key=repr)
    if hasattr(message, "__slots__"):
        return {
            name: bool(value) if name == "error_message" else plain(value)
            for name in message.__slots__
            if (value := getattr(message, name)) is not None
        }
    return message


def told(ibp: str, broker_id: int) -> Iterator[dict[str, Any]]:
    for row in RUNS:
        if row["ibp"] == ibp and row["to"] == broker_id and row["api"] in (4, 5, 6):
            yield row


@pytest.mark.parametrize(("ibp", "broker_id"), [*itertools.product(("3.9", "2.6"), (0, 1, 2))])
async def test_a_broker_answers_the_controller_as_apache_kafka(ibp: str, broker_id: int) -> None:
    fs = MemoryFileSystem()
    epoch, node = -1, broker(broker_id, fs, -1)
    count = 0
    for row in told(ibp, broker_id):
        request, expected = parse(row)
        if request.broker_epoch > epoch:
            epoch = request.broker_epoch
            node = broker(broker_id, fs, epoch)
        found = await answer(node, row, request)
        assert plain(found) == plain(expected), f"{row['step']}: {request}"
        count += 1
    assert count > 20
    assert {p.topic for p in node.replicas.partitions()} > set()


# --- by hand --------------------------------------------------------------------------------------


def by_hand(*keys: int) -> list[Any]:
    return [
        pytest.param(row, id=f"{API_BY_KEY[row['api']].name}-v{row['version']}-{row['case']}")
        for row in BY_HAND
        if row["api"] in keys
    ]


async def test_requests_by_hand_to_a_broker() -> None:
    """In the order in which they were sent: each builds on those before."""
    node = broker(0, MemoryFileSystem(), 25)
    node.control.controller_epoch = 1
    count = 0
    for row in BY_HAND:
        if row["api"] in (4, 5, 6):
            request, expected = parse(row)
            found = await answer(node, row, request)
            assert plain(found) == plain(expected), f"{row['case']}: {request}"
            count += 1
    assert count > 120


class ControllerStub:
    """The active controller of the recording: refusals as it would decide them."""

    def __init__(self, *, active: bool) -> None:
        self.active = active
        self.state: State | None = None

    async def allocate_producer_ids(self, broker_id: int, epoch: int) -> tuple[int, int]:
        if broker_id != 0:
            raise Refused(ErrorCode.BROKER_ID_NOT_REGISTERED)
        if epoch != 25:
            raise Refused(ErrorCode.STALE_BROKER_EPOCH)
        return 1000, 1000

    async def controlled_shutdown(self, broker_id: int, epoch: int) -> list[Any]:
        if broker_id != 0:
            raise Refused(ErrorCode.BROKER_NOT_AVAILABLE)
        if epoch not in (-1, 25):
            raise Refused(ErrorCode.STALE_BROKER_EPOCH)
        return []

    async def elect_leaders(self, keys: list[Any] | None, kind: Election) -> Elected:
        assert self.state is not None
        wanted = list(self.state.all_keys()) if keys is None else keys
        return Elected({}, elect(self.state, wanted, kind)[1])

    async def topic_names(self) -> dict[bytes, str]:
        raise NotController

    async def alter_isr(self, broker_id: int, epoch: int, wishes: list[Wish]) -> list[Any]:
        raise NotController


def controller(*, active: bool) -> Node:
    from broker.cluster.layout import Assignment, Leadership, Registration, TopicNode
    from broker.controller.state import Broker

    stub = ControllerStub(active=active)
    state = stub.state = State(0, 1)
    state.brokers[0] = Broker(0, 25, Registration(()))
    topic = state.add_topic("t1", TopicNode(bytes(15) + b"1", {0: Assignment((0,))}))
    topic.partitions[0].state = Leadership(0, 0, (0,), 1)
    node = Node()
    node.controller = cast(Any, stub)
    node.metadata = cast(Any, SimpleNamespace(wait_until=_at_once, view=None))
    return node


async def _at_once(*_: Any) -> bool:
    return True


@pytest.mark.parametrize("row", by_hand(7, 43, 67))
async def test_requests_by_hand_to_the_controller(row: dict[str, Any]) -> None:
    request, expected = parse(row)
    node = controller(active=row["case"] != "not the controller")
    assert plain(await answer(node, row, request)) == plain(expected)


@pytest.mark.parametrize(
    "row", [p for p in by_hand(56) if p.values[0]["case"] == "not the controller"]
)
async def test_alter_partition_elsewhere(row: dict[str, Any]) -> None:
    request, expected = parse(row)
    assert plain(await answer(controller(active=False), row, request)) == plain(expected)
    # It resigned after it was looked at.
    assert plain(await answer(controller(active=True), row, request)) == plain(expected)
