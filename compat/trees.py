"""What a broker leaves in ZooKeeper after each admin operation, beside what Apache Kafka leaves.

    python -m compat.trees record     # tests/compat/recorded/trees-3.9.2.json.gz (needs Java)

`play` sends the same requests to any single broker (number 1) and returns the tree after each step.
Ids, ports and times are replaced by words; versions of data and of children's lists are compared.
"""

import gzip
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from compat.reference import NODE_ID, SMALL, Reference
from protocol.errors import ErrorCode
from protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.kit.wire import Wire

RECORDED = Path(__file__).parents[1] / "tests/compat/recorded/trees-3.9.2.json.gz"
VERSION = "3.9.2"
SETTINGS = {**SMALL, "broker.id": str(NODE_ID)}
SETTLE_S = 15.0
SET, DELETE = 0, 1
TOPIC, BROKER = 2, 4

Tree = dict[str, dict[str, Any]]
"""Path -> data (parsed where it is JSON), version, cversion, ephemeral."""


def dump(address: str, root: str = "") -> Tree:
    """The whole tree below `root`, by a client that is none of the broker's."""
    client = KazooClient(f"{address}{root}")
    client.start()
    try:
        return read_tree(client)
    finally:
        client.stop()
        client.close()


def read_tree(client: KazooClient) -> Tree:
    """All that a client sees, without ZooKeeper's own."""
    tree: Tree = {}
    level = ["/"]
    while level:
        asked = [(p, client.get_async(p), client.get_children_async(p)) for p in level]
        level = []
        for path, content, children in asked:
            try:
                data, stat = content.get()
                names = children.get()
            except NoNodeError:
                continue  # went away meanwhile
            if path != "/":
                tree[path] = {
                    "data": _readable(data),
                    "version": stat.version,
                    "cversion": stat.cversion,
                    "ephemeral": stat.ephemeralOwner != 0,
                }
            base = path.rstrip("/")
            level += [f"{base}/{name}" for name in names if f"{base}/{name}" != "/zookeeper"]
    return dict(sorted(tree.items()))


def _readable(data: bytes | None) -> Any:
    if data is None:
        return None
    text = data.decode()
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict):
        return _masked(value)
    return text


def _masked(value: dict[str, Any]) -> dict[str, Any]:
    """Random and accidental parts as words."""
    masks: dict[str, Callable[[Any], Any]] = {
        "timestamp": lambda text: "time" if re.fullmatch(r"\d{13}", text) else text,
        "port": lambda number: "port" if number > 0 else number,
        "endpoints": lambda texts: [re.sub(r":\d+$", ":port", text) for text in texts],
        "topic_id": lambda text: "id" if len(text) == 22 else text,
        "id": lambda text: "id" if len(text) == 22 else text,
    }
    return {key: masks[key](item) if key in masks else item for key, item in value.items()}


# --- the steps ------------------------------------------------------------------------------------


def _create(wire: Wire, name: str, partitions: int, **configs: str) -> None:
    topic = CreatableTopic(
        name,
        partitions,
        1,
        configs=[CreatableTopicConfig(n.replace("_", "."), v) for n, v in configs.items()],
    )
    (answer,) = wire.call(CreateTopicsRequest([topic], 30_000), 5).topics
    assert answer.error_code == ErrorCode.NONE, answer


def _alter(wire: Wire, kind: int, name: str, **changes: str | None) -> None:
    configs = [
        AlterableConfig(n.replace("_", "."), DELETE if v is None else SET, v)
        for n, v in changes.items()
    ]
    request = IncrementalAlterConfigsRequest([AlterConfigsResource(kind, name, configs)])
    (answer,) = wire.call(request, 1).responses
    assert answer.error_code == ErrorCode.NONE, answer


def _until(ask: Callable[[], int]) -> None:
    end = time.monotonic() + SETTLE_S
    while (code := ask()) != ErrorCode.NONE:
        assert time.monotonic() < end, code
        time.sleep(0.1)


def steps(wire: Wire) -> Iterator[str]:
    """Carries out one step after the other; yields the name of each when it is done."""
    yield "started"
    _create(wire, "one", 1)
    _create(wire, "two", 3, cleanup_policy="compact", retention_ms="86400000")
    assigned = CreatableTopic("by-hand", -1, -1, [CreatableReplicaAssignment(0, [NODE_ID])])
    wire.call(CreateTopicsRequest([assigned], 30_000), 5)
    yield "topics created"
    request = MetadataRequest([MetadataRequestTopic(name="auto")], True)
    _until(lambda: wire.call(request, 9).topics[0].error_code)
    yield "topic created by asking for it"
    wire.call(CreatePartitionsRequest([CreatePartitionsTopic("two", 5, None)], 30_000), 3)
    yield "partitions added"
    _alter(wire, TOPIC, "two", max_message_bytes="2000000", retention_ms=None)
    yield "topic settings changed"
    _alter(wire, TOPIC, "two", max_message_bytes=None, cleanup_policy=None)
    yield "topic settings removed"
    _alter(wire, BROKER, "", log_retention_ms="3600000")
    _alter(wire, BROKER, str(NODE_ID), log_cleaner_threads="2")
    yield "broker settings"
    _alter(wire, BROKER, str(NODE_ID), log_cleaner_threads=None)
    yield "broker settings removed"
    _until(lambda: wire.call(InitProducerIdRequest(None, 60_000), 4).error_code)
    yield "producer ids"
    _until(lambda: wire.call(FindCoordinatorRequest("group"), 3).error_code)
    yield "offsets topic"
    names = ("one", "two")
    wire.call(DeleteTopicsRequest([DeleteTopicState(n) for n in names], timeout_ms=30_000), 6)
    yield "topics deleted"


def play(bootstrap: str, address: str, root: str = "") -> dict[str, Tree]:
    """The tree after each step."""
    with Wire(bootstrap, timeout=60) as wire:
        return {name: _settled(address, root) for name in steps(wire)}


def _settled(address: str, root: str) -> Tree:
    """The tree when it has not changed for a moment: some steps end after their answer."""
    end = time.monotonic() + SETTLE_S
    before, at = dump(address, root), time.monotonic()
    while time.monotonic() - at < 0.5 and time.monotonic() < end:
        time.sleep(0.1)
        now = dump(address, root)
        if now != before:
            before, at = now, time.monotonic()
    return before


def main() -> int:
    if sys.argv[1:] != ["record"]:
        print(__doc__)
        return 2
    with Reference(VERSION, settings=SETTINGS) as kafka:
        trees = play(kafka.address, f"127.0.0.1:{kafka.second_port}")
    RECORDED.write_bytes(gzip.compress(json.dumps(trees, indent=1).encode(), mtime=0))
    print(f"{len(trees)} trees, {RECORDED.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
