"""Generated requests: seeded sequences from the declarations, with values chosen to hurt.

A sequence is a case of its own: some topics, one connection, a producer id and perhaps a fetch
session, and a number of requests of all APIs that build on each other. What a request asks for is
drawn from the declaration of its message; pools of interesting values stand in for its fields.
Every fifth frame is damaged before it is sent. The draws never depend on an answer, so all sides
get the same requests, but for the ids that each side gave itself.

Kept out on purpose: what Apache Kafka itself does not survive (huge partition counts, assignments
without replicas), what changes the whole broker, lists of everything, which other sequences fill,
and records at odds with their batch's header, which Odradek does not read (the cases
`wrong-inside*` and `largest-timestamp-wrong` have them): one taken and one refused batch, and all
offsets behind it differ.
"""

import random
from typing import Any

from compat import generate_groups, offered
from compat.batches import GZIP, LZ4, SNAPPY, START_MS, ZSTD, Batch, Rec, batch, message, wrapped
from compat.play import Item
from compat.script import Case, Run, Topic, api_named
from protocol import apis
from protocol.compiler import specs_of
from protocol.wire import FieldSpec

LENGTH = 25
"""Requests in a sequence."""

PATIENCE = 20.0

TOPICS = {
    "plain": Topic(2, fill=[batch(b"a", b"b", b"c"), batch(b"d", base_timestamp=START_MS + 50)]),
    "compact": Topic(configs={"cleanup.policy": "compact"}, fill=[batch(b"a", b"b")]),
    "gzip": Topic(configs={"compression.type": "gzip", "max.message.bytes": "500"}),
    "settings": Topic(),
    "growing": Topic(),
}

EDGES = {
    "int8": (0, 1, -1, 2, 127, -128),
    "int16": (0, 1, -1, 2, 32767, -32768),
    "int32": (0, 1, -1, 2, 100, 2**31 - 1, -(2**31)),
    "int64": (0, 1, -1, 2, 3, 5, 100, 2**63 - 1, -(2**63)),
}
POOLS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("*", "partition"): (0, 0, 0, 0, 1, -1, 2, 9, 2**31 - 1),
    ("*", "partition_index"): (0, 0, 0, 0, 1, -1, 2, 9, 2**31 - 1),
    ("*", "partition_indexes"): (0, 0, 0, 1, -1, 7),
    ("*", "partitions"): (0, 0, 0, 1, -1, 7),
    ("*", "index"): (0, 0, 0, 0, 1, -1, 2, 9),
    ("*", "current_leader_epoch"): (-1, -1, -1, -1, 0, 0, 1, 99, -2),
    ("*", "replica_id"): (-1, -1, -1, -1, -1, -1, -2, 7),
    ("*", "isolation_level"): (0, 0, 0, 0, 1, 1, 1, 1, 2),
    ("*", "timeout_ms"): (15_000,),
    ("*", "rack_id"): ("", "", "r"),
    ("*", "cluster_id"): (None, None, "x"),
    ("Produce", "acks"): (1, 1, 1, 1, -1, -1, -1, 2, -2, 32767),
    ("Produce", "timeout_ms"): (0, 1, 5000, 5000, -1),
    ("Produce", "transactional_id"): (None, None, None, None, "tx"),
    ("Fetch", "max_wait_ms"): (0, 0, 0, 1, 15, -1),
    ("Fetch", "min_bytes"): (0, 0, 1, 1, 100, -1, 2**31 - 1),
    ("Fetch", "max_bytes"): (2**31 - 1, 2**31 - 1, 1 << 20, 100, 1, 0, -1),
    ("Fetch", "partition_max_bytes"): (1 << 20, 1 << 20, 1 << 20, 100, 200, 1, 0, -1),
    ("Fetch", "fetch_offset"): (0, 0, 0, 0, 1, 2, 3, 4, 5, 7, 20, -1, 2**62),
    ("Fetch", "last_fetched_epoch"): (-1, -1, -1, -1, 0, 1),
    ("Fetch", "log_start_offset"): (-1, -1, 0, 5),
    ("ListOffsets", "timestamp"): (-1, -2, -3, -4, -5, -6, -7, 0, START_MS, START_MS + 50, 2**62),
    ("OffsetForLeaderEpoch", "leader_epoch"): (0, 0, 0, 1, -1, 5, 2**31 - 1),
    ("DeleteRecords", "offset"): (0, 1, 2, 3, 4, 5, -1, -1, -2, 100, 2**63 - 1),
    ("CreateTopics", "num_partitions"): (1, 1, 1, 2, 3, 0, -1, -2),
    ("CreateTopics", "replication_factor"): (1, 1, 1, 1, -1, 0, -2, 2, 32767),
    ("CreatePartitions", "count"): (2, 3, 4, 4, 1, 0, -1),
    ("CreatePartitions", "assignments"): (None, None, None, None, [], [{"broker_ids": [1]}]),
    ("CreateTopics", "assignments"): (
        [],
        [],
        [],
        [],
        [],
        [{"partition_index": 0, "broker_ids": [1]}],
    ),
    ("ApiVersions", "client_software_name"): ("a", "compat", "a.b-c", "", "a b", "-", "\u00fc"),
    ("ApiVersions", "client_software_version"): ("1", "1.2", "", "!", "v" * 300),
    ("DescribeTopicPartitions", "response_partition_limit"): (2000, 2000, 0, 1, 2, 3, -1),
    ("DescribeTopicPartitions", "cursor"): (None,),
    ("FindCoordinator", "key"): ("", "group", "x" * 300),
    ("FindCoordinator", "coordinator_keys"): ("", "group", "a"),
    ("ListConfigResources", "resource_types"): (16, 0, 1, 3, -1, 64),
    ("DescribeCluster", "endpoint_type"): (1, 1, 1, 2, 0, 3, -1),
}
"""Values by API and field; `*` stands for any API."""

CONFIGS = (
    ("retention.ms", "1000"), ("retention.ms", "x"), ("retention.ms", "-2"), ("retention.ms", ""),
    ("cleanup.policy", "compact"), ("cleanup.policy", "delete,compact"), ("cleanup.policy", "burn"),
    ("max.message.bytes", "1000"), ("max.message.bytes", "-1"), ("segment.bytes", "2000000"),
    ("segment.bytes", "1e6"), ("compression.type", "lz4"), ("compression.type", "none"),
    ("no.such", "1"), ("", ""), ("min.insync.replicas", "1"), ("min.insync.replicas", "0"),
    ("preallocate", "yes"), ("preallocate", "false"), ("min.cleanable.dirty.ratio", "0.7"),
    ("segment.ms", None),
    ("flush.messages", "9223372036854775807"), ("delete.retention.ms", "9223372036854775808"),
    ("message.timestamp.type", "LogAppendTime"), ("message.timestamp.type", "logappendtime"),
    ("unclean.leader.election.enable", "TRUE"),
)  # fmt: skip
BROKER_KEYS = ("num.partitions", "log.retention.ms", "message.max.bytes", "no.such", "broker.id")
INVALID_NAMES = ("", ".", "..", "a b", "a/b", "\u00e4", "x" * 250)

ONLY_CUT = frozenset(
    (
        "AlterConfigs",
        "CreatePartitions",
        "CreateTopics",
        "DeleteTopics",
        "DescribeLogDirs",
        "DescribeTopicPartitions",
        "FindCoordinator",
        "IncrementalAlterConfigs",
        "InitProducerId",
        "ListConfigResources",
        "Metadata",
        *generate_groups.APIS,
    )
)
"""APIs whose frames are only cut short: a changed byte could mean too much."""

NO_EMPTY_LIST = frozenset(
    (
        "Metadata",
        "DescribeTopicPartitions",
        "ListConfigResources",
        "OffsetFetch",
        "AddPartitionsToTxn",
    )
)
"""APIs that take an empty list for "all", or never answer to one."""


GENERATED = frozenset((*tuple(offered.COVERED)[:21], *generate_groups.APIS))


class Sequence:
    """One sequence under way at one side. All draws come from its own random numbers."""

    def __init__(self, run: Run, seed: str, new: bool) -> None:
        self.run = run
        self.draw = random.Random(seed)
        self.new = new
        self.fresh = 0
        self.producer = -1
        self.sequence = 0
        self.session = (0, -1)
        self.given = generate_groups.Given(run)

    def go(self) -> None:
        self.run.coordinator(0)
        self.run.coordinator(1)
        answer = self.run.ask("InitProducerId", 1, transactional_id=None)
        self.producer = answer.producer_id if answer is not None else -1
        choices = [p for p in offered.pairs(self.new) if p[0] in GENERATED]
        names = sorted({api for api, _ in choices})
        for number in range(LENGTH):
            api = self.draw.choice((*names, "Produce", "Produce", "Fetch", "Fetch"))
            version = self.draw.choice([v for a, v in choices if a == api])
            self.one(number, api, version)

    def one(self, number: int, api: str, version: int) -> None:
        """One request, whole or damaged."""
        fields = self.message(api, version)
        label = f"{number} {api}"
        damaged = self.draw.random() < 0.2
        frame = self.run.frame(api, version, fields)
        if damaged:
            frame = self.damage(api, frame)
            label += " damaged"
        outcome = self.run.link().exchange(frame, PATIENCE)
        answer = self.run.note(api, version, outcome, frame, label, keep=self.given.own(api))
        if api == "Fetch" and version >= 7:
            self.remember(answer)
        if answer is not None and not damaged:
            self.given.remember(api, answer)
            self.settle(api, answer)
        self.given.settle(api)

    def remember(self, answer: Any) -> None:
        number, epoch = self.session
        if answer is None or answer.error_code or not answer.session_id:
            self.session = (0, -1)
        else:
            self.session = (answer.session_id, epoch + 1 if answer.session_id == number else 1)

    def settle(self, api: str, answer: Any) -> None:
        """Waits for what an answer announced."""
        if api == "CreateTopics" and not self.validated:
            self.run.settle(*(t.name for t in answer.topics if t.error_code == 0))
        if api == "Metadata":
            made = [t.name for t in answer.topics if t.error_code == 5]
            self.run.settle(*made)

    def damage(self, api: str, frame: bytes) -> bytes:
        """Cut short, or a byte changed, dropped or put in, in the later part of the body."""
        head = 10 + len("compat") + 1
        at = head + int((len(frame) - head) * (0.4 + 0.6 * self.draw.random()))
        at = min(at, len(frame) - 1)
        how = "cut" if api in ONLY_CUT else self.draw.choice(("cut", "flip", "flip", "drop", "put"))
        if how == "cut":
            return frame[:at]
        if how == "drop":
            return frame[:at] + frame[at + 1 :]
        if how == "put":
            return frame[:at] + bytes([self.draw.randrange(256)]) + frame[at:]
        changed = bytearray(frame)
        changed[at] ^= 1 << self.draw.randrange(8)
        return bytes(changed)

    # What a request says

    def message(self, api: str, version: int) -> dict[str, Any]:
        """Fields of a request, drawn from its declaration."""
        cls = apis.request_class(api_named(api).key)
        self.validated = False
        fields = self.struct(api, version, cls)
        if api == "Fetch" and version >= 7 and self.draw.random() < 0.5:
            number, epoch = self.session
            fields["session_id"], fields["session_epoch"] = number, epoch if number else 0
        elif api == "Fetch":
            fields["session_id"], fields["session_epoch"] = 0, -1
        if "AlterConfigs" in api:  # Kafka never answers when a resource is named twice
            kept = {}
            for resource in fields["resources"]:
                kind = resource["resource_type"]
                kept[kind if kind in (2, 4, 8) else 0, resource["resource_name"]] = resource
            fields["resources"] = list(kept.values())
        self.validated = fields.get("validate_only", False)
        self.given.adjust(api, fields)
        return fields

    def struct(self, api: str, version: int, cls: type[Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for spec in specs_of(cls):
            if spec.in_version(version) and (spec.tag is None or self.draw.random() < 0.3):
                out[spec.name] = self.value(api, version, spec)
        if "topic_id" in out and ("name" in out or "topic" in out):
            key = "name" if "name" in out else "topic"
            out["topic_id"] = self.matching(api, out, key)
        if "resource_type" in out:
            self.resource(api, out)
        return out

    def value(self, api: str, version: int, spec: FieldSpec) -> Any:
        pool = _pool(api, spec.name)
        if spec.kind == "array":
            return self.array(api, version, spec, pool)
        if pool is not None:
            return self.given.resolve(self.draw.choice(pool))
        if spec.kind == "struct":
            assert spec.struct is not None
            return self.struct(api, version, spec.struct)
        return self.plain(api, spec)

    def array(self, api: str, version: int, spec: FieldSpec, pool: Any) -> Any:
        if spec.name == "assignments" and pool is not None:
            return self.draw.choice(pool)
        if spec.name == "configs":
            return [self.config(spec) for _ in range(self.draw.choice((0, 1, 1, 2)))]
        least = 1 if api in NO_EMPTY_LIST else 0
        count = max(least, self.draw.choice((0, 1, 1, 1, 1, 2, 3)))
        if (api, spec.name) in generate_groups.NEVER_MANY:
            count = min(count, 1)
        element = spec.element
        assert element is not None
        if pool is not None and element.kind != "struct":
            return [self.given.resolve(self.draw.choice(pool)) for _ in range(count)]
        if element.kind == "struct":
            assert element.struct is not None
            return [self.struct(api, version, element.struct) for _ in range(count)]
        if spec.name == "configuration_keys":
            keys = [self.draw.choice(CONFIGS)[0] for _ in range(count)]
            return self.draw.choice((keys, keys + list(BROKER_KEYS)))
        return [self.name(api) for _ in range(count)]

    def plain(self, api: str, spec: FieldSpec) -> Any:
        if spec.kind == "records":
            return self.records()
        if spec.kind == "string":
            return self.name(api)
        if spec.kind == "bool":
            return self.draw.random() < 0.5
        if spec.kind == "uuid":
            # In a Fetch the zero id is too much for Apache Kafka (see the case `zero-ids`).
            zero = self.run.other_id() if api == "Fetch" else bytes(16)
            return self.draw.choice((zero, self.run.topic_id("plain"), self.run.other_id()))
        return self.draw.choice(EDGES[spec.kind])

    def name(self, api: str) -> str:
        chance = self.draw.random()
        if chance < 0.1:
            return self.draw.choice(INVALID_NAMES)
        if chance < 0.25 or api in ("CreateTopics", "DeleteTopics"):
            self.fresh += 1
            return self.run.fresh(f"new{self.fresh}")
        if api == "CreatePartitions":
            return self.run.name("growing")
        if "AlterConfigs" in api:
            return self.run.name("settings")
        alias = self.draw.choice(("plain", "plain", "plain", "compact", "gzip", "filled"))
        if api in ("Produce", "DeleteRecords", "WriteTxnMarkers") and alias == "filled":
            alias = "plain"
        return self.run.name(alias)

    def matching(self, api: str, out: dict[str, Any], key: str) -> bytes:
        """The id of the topic that was named, where the version knows both."""
        for alias in ("plain", "compact", "gzip", "filled"):
            if out[key] == self.run.name(alias):
                if api in ("Metadata", "DeleteTopics"):
                    return bytes(16)
                return self.run.topic_id(alias)
        return self.run.other_id() if api not in ("Metadata", "DeleteTopics") else bytes(16)

    def resource(self, api: str, out: dict[str, Any]) -> None:
        kind = self.draw.choice(
            (2, 2, 2, 2, 4, 1, 16, 0) if "Alter" not in api else (2, 2, 2, 2, 1, 0)
        )
        out["resource_type"] = kind
        if kind == 4:
            out["resource_name"] = self.draw.choice(("1", "", "2", "x"))
            out["configuration_keys"] = list(BROKER_KEYS)

    def config(self, spec: FieldSpec) -> dict[str, Any]:
        key, value = self.draw.choice(CONFIGS)
        out: dict[str, Any] = {"name": key, "value": value}
        struct = spec.element.struct if spec.element is not None else None
        if struct is not None and any(s.name == "config_operation" for s in specs_of(struct)):
            out["config_operation"] = self.draw.choice((0, 0, 0, 1, 2, 3, 4))
        return out

    def records(self) -> bytes:
        """Records of a Produce: right ones, doubtful ones, wrong ones."""
        draw = self.draw
        kind = draw.randrange(10)
        codec = draw.choice((0, 0, 0, GZIP, SNAPPY, LZ4, ZSTD))
        if kind < 3:
            values = [b"v%d" % draw.randrange(100) for _ in range(draw.choice((1, 1, 2, 5)))]
            return batch(*values, codec=codec)
        if kind < 5:
            return self.idempotent(codec)
        if kind == 5:
            inner = message(b"old", magic=draw.choice((0, 1)))
            return draw.choice((inner, inner + inner, wrapped(message(b"old"))))
        if kind == 6:
            return draw.choice((b"", b"\0" * 61, batch(b"a") + batch(b"b"), b"x" * 80))
        fields: dict[str, Any] = {
            draw.choice(
                ("base_offset", "crc", "magic", "last_offset_delta", "count", "leader_epoch",
                 "attributes", "producer_id", "base_sequence", "length")
            ): draw.choice((0, 1, -1, 2, 3, 8, 16, 32))
        }  # fmt: skip
        if fields.get("crc", 0) < 0:
            fields["crc"] = 1
        if 0 < fields.get("attributes", 0) < 8:
            fields["attributes"] |= (
                5  # a codec that does not exist, not another one than the body's
            )
        records = [Rec(b"a"), Rec(b"b", draw.choice((b"k", None)))]
        return Batch(records, codec, **fields).encode()

    def idempotent(self, codec: int) -> bytes:
        draw = self.draw
        sequence = self.sequence + draw.choice((0, 0, 0, 0, -1, 1, 5))
        epoch = draw.choice((0, 0, 0, 0, 0, 1, -1))
        if sequence == self.sequence:
            self.sequence += 1
        fields = {"producer_id": self.producer, "producer_epoch": epoch, "base_sequence": sequence}
        return batch(b"i%d" % sequence, codec=codec, **fields)


def _pool(api: str, field: str) -> tuple[Any, ...] | None:
    """The values to choose from for a field of an API, the API's own before those of all."""
    for key in ((api, field), ("*", field)):
        for pools in (POOLS, generate_groups.POOLS):
            if key in pools:
                return pools[key]
    return None


def _case(seed: int, number: int, new: bool) -> Case:
    def act(run: Run) -> None:
        Sequence(run, f"{seed}-{number}", new).go()

    return Case("Generated", f"seed{seed}-{number}", act, (0, 0), TOPICS, False)


def generated_items(count: int, seed: int, judges: tuple[str, str]) -> list[Item]:
    """Sequences that hold `count` requests; every eighth asks only what the newer judge serves."""
    items = []
    for number in range((count + LENGTH - 1) // LENGTH):
        new = number % 8 == 7
        items.append(Item(_case(seed, number, new), 0, judges[new]))
    return items
