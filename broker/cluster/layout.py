"""Znode paths and contents exactly as Apache Kafka 3.9 (ZooKeeper mode) has them.

Writers put JSON fields in the order Apache Kafka puts them, so that trees compare as text; readers
take any order and the older versions that a rolling cluster may still hold. A content that cannot
be read raises `BadContent`: the caller logs it and leaves that node alone.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from protocol.wire import ZERO_UUID

CONSUMERS = "/consumers"
CONTROLLER = "/controller"
CONTROLLER_EPOCH = "/controller_epoch"
CLUSTER_ID = "/cluster/id"
BROKER_IDS = "/brokers/ids"
BROKER_SEQUENCE = "/brokers/seqid"
TOPICS = "/brokers/topics"
CONFIG = "/config"
CONFIG_CHANGES = "/config/changes"
CONFIG_CHANGE_PREFIX = "config_change_"
DELETE_TOPICS = "/admin/delete_topics"
REASSIGN_PARTITIONS = "/admin/reassign_partitions"
PREFERRED_ELECTION = "/admin/preferred_replica_election"
ISR_CHANGES = "/isr_change_notification"
ISR_CHANGE_PREFIX = "isr_change_"
LOG_DIR_EVENTS = "/log_dir_event_notification"
LOG_DIR_EVENT_PREFIX = "log_dir_event_"
PRODUCER_ID_BLOCK = "/latest_producer_id_block"
FEATURE = "/feature"

NOTHING_FINALIZED: Mapping[str, int] = MappingProxyType({})
SENSITIVE_PATHS = ("/config/users", "/config/brokers", "/delegation_token/tokens")
"""Below these lie secrets: with zookeeper.set.acl only brokers may read them."""

DEFAULT_ENTITY = "<default>"
CONFIG_KINDS = ("topics", "clients", "users", "brokers", "ips")
"""Kinds of config entities with a node of their own from the first start on."""

PERSISTENT_PATHS = (
    CONSUMERS,
    BROKER_IDS,
    TOPICS,
    CONFIG_CHANGES,
    DELETE_TOPICS,
    BROKER_SEQUENCE,
    ISR_CHANGES,
    PRODUCER_ID_BLOCK,
    LOG_DIR_EVENTS,
    *(f"{CONFIG}/{kind}" for kind in CONFIG_KINDS),
)
"""Created by every broker at start where missing, in this order, without data."""


class BadContent(ValueError):
    """A znode holds what this release cannot read."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"cannot read {path}: {detail}")
        self.path = path


def broker_path(broker_id: int) -> str:
    return f"{BROKER_IDS}/{broker_id}"


def topic_path(topic: str) -> str:
    return f"{TOPICS}/{topic}"


def partitions_path(topic: str) -> str:
    return f"{TOPICS}/{topic}/partitions"


def partition_path(topic: str, partition: int) -> str:
    return f"{TOPICS}/{topic}/partitions/{partition}"


def state_path(topic: str, partition: int) -> str:
    return f"{TOPICS}/{topic}/partitions/{partition}/state"


def deletion_path(topic: str) -> str:
    return f"{DELETE_TOPICS}/{topic}"


def config_path(kind: str, name: str) -> str:
    """`name` as it stands in the tree: see `entity_name`."""
    return f"{CONFIG}/{kind}/{name}"


def entity_name(name: str) -> str:
    """A user, client id or address as a node name: percent-encoded, but for the default entity."""
    from urllib.parse import quote  # not needed at start, and slow to import

    return name if name == DEFAULT_ENTITY else quote(name, safe="-._")


def plain_name(node: str) -> str:
    """The other way round."""
    from urllib.parse import unquote

    return node if node == DEFAULT_ENTITY else unquote(node)


def encode_uuid(value: bytes) -> str:
    """16 bytes as Kafka prints them: base64 for URLs, 22 characters."""
    return base64.urlsafe_b64encode(value).decode("ascii").rstrip("=")


def decode_uuid(text: str) -> bytes:
    """Raises ValueError for anything but 16 encoded bytes."""
    try:
        value = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:  # binascii.Error is one
        raise ValueError(f"not a Kafka uuid: {text!r}") from error
    if len(value) != 16:
        raise ValueError(f"not a Kafka uuid: {text!r}")
    return value


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _load(path: str, data: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(data or b"")
    except (ValueError, RecursionError) as error:
        raise BadContent(path, str(error)) from error
    if not isinstance(value, dict):
        raise BadContent(path, "not a JSON object")
    return value


# --- broker registration ------------------------------------------------------------------------


class Endpoint(NamedTuple):
    """One listener of a broker as it advertises it; `protocol` is Kafka's security protocol."""

    listener: str
    host: str
    port: int
    protocol: str = "PLAINTEXT"


class Registration(NamedTuple):
    """Content of /brokers/ids/N."""

    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    timestamp_ms: int = 0
    features: Mapping[str, Any] = {}


def encode_registration(broker: Registration) -> bytes:
    """Version 5. `host` and `port` repeat the first PLAINTEXT endpoint for very old readers."""
    plain = next((e for e in broker.endpoints if e.protocol == "PLAINTEXT"), None)
    value: dict[str, Any] = {
        "features": dict(broker.features),
        "listener_security_protocol_map": {e.listener: e.protocol for e in broker.endpoints},
        "endpoints": [f"{e.listener}://{_bracketed(e.host)}:{e.port}" for e in broker.endpoints],
    }
    if broker.rack is not None:
        value["rack"] = broker.rack
    value |= {
        "jmx_port": -1,
        "port": plain.port if plain else -1,
        "host": plain.host if plain else None,
        "version": 5,
        "timestamp": str(broker.timestamp_ms),
    }
    return _dump(value)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def decode_registration(broker_id: int, data: bytes | None) -> Registration:
    """Versions 1 to 5."""
    path = broker_path(broker_id)
    value = _load(path, data)
    try:
        protocols = value.get("listener_security_protocol_map") or {}
        texts = value.get("endpoints")
        if texts is None:
            endpoints = [Endpoint("PLAINTEXT", value["host"], int(value["port"]))]
        else:
            endpoints = [_endpoint(text, protocols) for text in texts]
        return Registration(
            tuple(endpoints),
            value.get("rack"),
            int(value.get("timestamp") or 0),
            value.get("features") or {},
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadContent(path, repr(error)) from error


def _endpoint(text: str, protocols: Mapping[str, str]) -> Endpoint:
    listener, _, address = text.partition("://")
    host, _, port = address.rpartition(":")
    return Endpoint(listener, host.strip("[]"), int(port), protocols.get(listener, listener))


# --- controller, cluster id, features, producer ids -------------------------------------------


def encode_controller(broker_id: int, now_ms: int) -> bytes:
    return _dump(
        {"version": 2, "brokerid": broker_id, "timestamp": str(now_ms), "kraftControllerEpoch": -1}
    )


def decode_controller(data: bytes | None) -> int:
    """Id of the controller; versions 1 and 2."""
    try:
        return int(_load(CONTROLLER, data)["brokerid"])
    except (KeyError, ValueError, TypeError) as error:
        raise BadContent(CONTROLLER, repr(error)) from error


def encode_cluster_id(cluster_id: str) -> bytes:
    return _dump({"version": "1", "id": cluster_id})


def decode_cluster_id(data: bytes | None) -> str:
    value = _load(CLUSTER_ID, data).get("id")
    if not isinstance(value, str):
        raise BadContent(CLUSTER_ID, "no id")
    return value


def encode_feature(levels: Mapping[str, int] = NOTHING_FINALIZED) -> bytes:
    """Finalized features by name, feature versioning enabled: version 2, as 3.9 writes it."""
    features = {name: {"max_version_level": level} for name, level in levels.items()}
    return _dump({"features": features, "version": 2, "status": 1})


def decode_feature(data: bytes | None) -> dict[str, int]:
    """Finalized level by feature; none while feature versioning is disabled. Versions 1 and 2."""
    value = _load(FEATURE, data)
    try:
        if int(value["status"]) == 0:
            return {}
        features = value["features"].items()
        return {name: int(levels["max_version_level"]) for name, levels in features}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadContent(FEATURE, repr(error)) from error


def encode_producer_block(broker_id: int, first: int, last: int) -> bytes:
    """Block of producer ids from `first` to `last`, both included."""
    return _dump(
        {"version": 1, "broker": broker_id, "block_start": str(first), "block_end": str(last)}
    )


def decode_producer_block(data: bytes | None) -> tuple[int, int, int]:
    """(broker, first, last); both ends belong to the block."""
    value = _load(PRODUCER_ID_BLOCK, data)
    try:
        return int(value["broker"]), int(value["block_start"]), int(value["block_end"])
    except (KeyError, ValueError, TypeError) as error:
        raise BadContent(PRODUCER_ID_BLOCK, repr(error)) from error


def encode_isr_change(keys: Iterable[tuple[str, int]]) -> bytes:
    """A leader below IBP 2.7 has written other ISRs of these (topic, partition)."""
    partitions = [{"topic": topic, "partition": partition} for topic, partition in keys]
    return _dump({"version": 1, "partitions": partitions})


def decode_isr_change(data: bytes | None) -> list[tuple[str, int]]:
    """The partitions, none when the note cannot be read."""
    try:
        entries = _load(ISR_CHANGES, data)["partitions"]
        return [(str(entry["topic"]), int(entry["partition"])) for entry in entries]
    except (KeyError, ValueError, TypeError):
        return []


def encode_log_dir_event(broker_id: int) -> bytes:
    """A log directory of this broker failed."""
    return _dump({"version": 1, "broker": broker_id, "event": 1})


def decode_log_dir_event(data: bytes | None) -> int:
    """Id of the broker, -1 when the note cannot be read."""
    try:
        return int(_load(LOG_DIR_EVENTS, data)["broker"])
    except (KeyError, ValueError, TypeError):
        return -1


# --- topics --------------------------------------------------------------------------------------


class Assignment(NamedTuple):
    """Replicas of a partition; while it is reassigned, those on their way in and out (KIP-455)."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()


class TopicNode(NamedTuple):
    """Content of /brokers/topics/T; `topic_id` is None or zero in clusters of an IBP below 2.8."""

    topic_id: bytes | None
    assignments: Mapping[int, Assignment]


def encode_topic(topic: TopicNode) -> bytes:
    """Version 3, as 3.9 writes it at any inter.broker.protocol.version."""
    ordered = sorted(topic.assignments.items())
    value: dict[str, Any] = {"partitions": {str(p): a.replicas for p, a in ordered}}
    if topic.topic_id not in (None, ZERO_UUID):
        value["topic_id"] = encode_uuid(topic.topic_id)
    value |= {
        "adding_replicas": {str(p): a.adding for p, a in ordered if a.adding},
        "removing_replicas": {str(p): a.removing for p, a in ordered if a.removing},
        "version": 3,
    }
    return _dump(value)


def decode_topic(name: str, data: bytes | None) -> TopicNode:
    """Versions 1 to 3."""
    path = topic_path(name)
    value = _load(path, data)
    try:
        adding = value.get("adding_replicas") or {}
        removing = value.get("removing_replicas") or {}
        assignments = {
            int(p): Assignment(
                tuple(replicas), tuple(adding.get(p, ())), tuple(removing.get(p, ()))
            )
            for p, replicas in value["partitions"].items()
        }
        text = value.get("topic_id")
        return TopicNode(None if text is None else decode_uuid(text), assignments)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadContent(path, repr(error)) from error


def encode_reassignments(targets: Mapping[tuple[str, int], Sequence[int]]) -> bytes:
    """/admin/reassign_partitions: the replicas that (topic, partition) shall have."""
    partitions = [
        {"topic": topic, "partition": partition, "replicas": list(replicas)}
        for (topic, partition), replicas in targets.items()
    ]
    return _dump({"version": 1, "partitions": partitions})


def decode_reassignments(data: bytes | None) -> dict[tuple[str, int], tuple[int, ...]]:
    """The replicas that (topic, partition) shall have."""
    value = _load(REASSIGN_PARTITIONS, data)
    try:
        return {
            (str(entry["topic"]), int(entry["partition"])): tuple(map(int, entry["replicas"]))
            for entry in value["partitions"]
        }
    except (KeyError, ValueError, TypeError) as error:
        raise BadContent(REASSIGN_PARTITIONS, repr(error)) from error


def decode_elections(data: bytes | None) -> list[tuple[str, int]]:
    """/admin/preferred_replica_election: (topic, partition) that shall get preferred leaders."""
    value = _load(PREFERRED_ELECTION, data)
    try:
        return [(str(entry["topic"]), int(entry["partition"])) for entry in value["partitions"]]
    except (KeyError, ValueError, TypeError) as error:
        raise BadContent(PREFERRED_ELECTION, repr(error)) from error


class Leadership(NamedTuple):
    """Content of a partition's state node; `leader` -1 means none, `recovering` after unclean."""

    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    controller_epoch: int
    recovering: bool = False


def encode_state(state: Leadership) -> bytes:
    # Put together by hand: a start or a failover of many partitions writes thousands.
    isr = ",".join(map(str, state.isr))
    recovery = ',"leader_recovery_state":1' if state.recovering else ""
    return (
        f'{{"controller_epoch":{state.controller_epoch},"leader":{state.leader},"version":1,'
        f'"leader_epoch":{state.leader_epoch},"isr":[{isr}]{recovery}}}'
    ).encode()


def decode_state(topic: str, partition: int, data: bytes | None) -> Leadership:
    path = state_path(topic, partition)
    value = _load(path, data)
    try:
        return Leadership(
            int(value["leader"]),
            int(value["leader_epoch"]),
            tuple(value["isr"]),
            int(value["controller_epoch"]),
            value.get("leader_recovery_state", 0) == 1,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise BadContent(path, repr(error)) from error


# --- configs -------------------------------------------------------------------------------------


def encode_config(config: Mapping[str, str]) -> bytes:
    return _dump({"version": 1, "config": dict(config)})


def decode_config(path: str, data: bytes | None) -> dict[str, str]:
    """Overrides by name; an empty node is no overrides."""
    if not data:
        return {}
    config = _load(path, data).get("config")
    if not isinstance(config, dict) or not all(isinstance(v, str) for v in config.values()):
        raise BadContent(path, "config is not a map of texts")
    return config


def encode_config_change(entity_path: str) -> bytes:
    """`entity_path` such as topics/T or users/U/clients/C."""
    return _dump({"version": 2, "entity_path": entity_path})


def decode_config_change(path: str, data: bytes | None) -> str:
    """The entity path; version 1 (`entity_type`, `entity_name`) is read too."""
    value = _load(path, data)
    entity = value.get("entity_path")
    if entity is None and "entity_type" in value:
        entity = f"{value['entity_type']}/{value.get('entity_name', '')}"
    if not isinstance(entity, str):
        raise BadContent(path, "no entity path")
    return entity


def sequence_of(name: str) -> int:
    """The number of a sequential node, -1 for other names."""
    digits = name[-10:]
    return int(digits) if len(name) > 10 and digits.isdigit() else -1


def by_sequence(names: Iterable[str], prefix: str) -> Sequence[str]:
    """Sequential nodes of that prefix, oldest first."""
    return sorted((n for n in names if n.startswith(prefix)), key=sequence_of)
