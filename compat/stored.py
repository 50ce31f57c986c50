"""What a case left in an internal topic, as a step of its own: records of its groups only.

    watch(run, OFFSETS)         at the beginning of the case
    ...
    written(run, OFFSETS)       compares the keys and values written since, in their order

Keys and values are decoded by kind and version; ids and times are symbols. A value that would not
be encoded to the very same bytes again is compared as bytes too.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from compat.normal import Aliases
from compat.read_batches import around_now
from compat.script import SETTLE_SECONDS, Run, Step
from protocol.batch import batches, end_txn_marker
from protocol.compiler import specs_of
from protocol.record import records_of
from protocol.stored import consumer_offsets, share_group_state, transaction_state

OFFSETS = "__consumer_offsets"
TRANSACTIONS = "__transaction_state"
SHARE_STATE = "__share_group_state"
_CODECS: Mapping[str, Any] = {
    OFFSETS: consumer_offsets,
    TRANSACTIONS: transaction_state,
    SHARE_STATE: share_group_state,
}
_KINDS = {OFFSETS: 0, TRANSACTIONS: 1, SHARE_STATE: 2}
_OWNERS = ("group", "group_id", "transactional_id")
_HASHED = ("ConsumerGroupTargetAssignmentMember", "ShareGroupTargetAssignmentMember")
LIMIT = 64 << 20

Records = list[dict[str, Any]]


def watch(run: Run, topic: str) -> None:
    """From now on: what is written to this internal topic belongs to `written`."""
    run.coordinator(_KINDS[topic])
    run.starts[topic] = _end(run, topic)


def _end(run: Run, topic: str) -> int:
    scratch = run.side.setup_run()
    try:
        partition = {"partition_index": 0, "timestamp": -1}
        answer = scratch.ask(
            "ListOffsets", 1, replica_id=-1, topics=[{"name": topic, "partitions": [partition]}]
        )
        return int(answer.topics[0].partitions[0].offset)
    finally:
        scratch.close()


def written(
    run: Run,
    topic: str,
    *owners: str,
    ready: Callable[[Records], bool] = lambda records: True,
    step: str | None = None,
    without: str = "",
) -> None:
    """Writes down the records of these groups or transactional ids that were written since `watch`.

    `ready`: what must be there before; it is waited for. Transaction markers of producers that
    wrote such records are among them. `without`: a kind of record that is passed over.
    """
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        aliases = run.aliases.copy()
        records = [
            r for r in _read(run, topic, owners, aliases) if r.get("kind", "marker") != without
        ]
        if ready(records) or time.monotonic() > end:
            break
        time.sleep(0.02)
    run.aliases = aliases
    _order(records, _HASHED)
    _by_key(records)
    label = f"{len(run.steps) + 1} {step or 'written'} {topic}"
    run.steps.append(Step(label, topic, run.version, "answered", {"records": records}))


def _family(record: dict[str, Any]) -> str:
    """Snapshots of a share partition and what updates them belong together."""
    kind = str(record.get("kind"))
    return "ShareState" if kind in ("ShareSnapshot", "ShareUpdate") else kind


def _order(records: Records, kinds: tuple[str, ...]) -> None:
    """Neighbours of these kinds are put in the order of their keys."""
    start = 0
    for at in range(1, len(records) + 1):
        if at == len(records) or records[at].get("kind") != records[start].get("kind"):
            if records[start].get("kind") in kinds:
                records[start:at] = sorted(records[start:at], key=lambda r: str(r["key"]))
            start = at


def _by_key(records: Records) -> None:
    """What belongs to a share group is put together by key: several write it at once."""
    if any(r.get("kind", "").startswith("Share") for r in records):
        records.sort(key=lambda r: (_family(r), str(r.get("key"))))


def _read(run: Run, topic: str, owners: tuple[str, ...], aliases: Aliases) -> Records:
    offset = run.starts[topic]
    out: Records = []
    producers: set[int] = set()
    scratch = run.side.setup_run()
    try:
        while True:
            data = _fetch(scratch, topic, offset)
            if not data:
                return out
            for position, header in batches(data):
                if header.next_offset <= offset:
                    continue
                out += _of_batch(topic, data, position, header, owners, producers, aliases)
                offset = header.next_offset
    finally:
        scratch.close()


def _fetch(scratch: Run, topic: str, offset: int) -> bytes:
    wanted = {"partition": 0, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
    answer = scratch.ask(
        "Fetch",
        11,
        max_wait_ms=0,
        min_bytes=0,
        max_bytes=1 << 20,
        topics=[{"topic": topic, "partitions": [wanted]}],
    )
    return bytes(answer.responses[0].partitions[0].records or b"")


def _of_batch(
    topic: str,
    data: bytes,
    position: int,
    header: Any,
    owners: tuple[str, ...],
    producers: set[int],
    aliases: Aliases,
) -> Records:
    """The case's records of one batch. `producers` gathers whose markers are wanted."""
    if header.control:
        marker = end_txn_marker(data, position, header)
        if marker is None or header.producer_id not in producers:
            return []
        producer = aliases.symbol("producer id", header.producer_id)
        told = {"producer_id": producer, "producer_epoch": header.producer_epoch}
        return [{"marker": "commit" if marker[0] else "abort", **told}]
    out: Records = []
    for record in records_of(data, position, header, LIMIT):
        told = _record(topic, record, owners, aliases)
        if told is None:
            continue
        if header.transactional:
            producers.add(header.producer_id)
            told["producer_id"] = aliases.symbol("producer id", header.producer_id)
            told["producer_epoch"] = header.producer_epoch
        out.append(told)
    _order(out, ("OffsetCommit",))  # of one request: as a hash table has them
    return out


def _record(
    topic: str, record: Any, owners: tuple[str, ...], aliases: Aliases
) -> dict[str, Any] | None:
    codec = _CODECS[topic]
    raw = bytes(record.key)
    key = codec.decode_key(raw)
    if key is None or not any(getattr(key, name, None) in owners for name in _OWNERS):
        return None
    told: dict[str, Any] = {"kind": type(key).__name__.removesuffix("Key")}
    told["key"] = _plain(key, 0, aliases)
    if record.value is None:
        told["value"] = None
        return told
    raw = bytes(record.value)
    value = codec.decode_value(key.RECORD_TYPE, raw)
    version = int.from_bytes(raw[:2], "big")
    told["version"] = version
    told["value"] = _plain(value, version, aliases)
    expiry = getattr(value, "expire_timestamp", -1)
    if version == 1 and expiry != -1:
        told["value"]["expire_timestamp"] = f"committed + {expiry - value.commit_timestamp}"
    if codec.encode_value(value, version) != raw:
        told["bytes"] = raw.hex()
    return told


def _plain(value: Any, version: int, aliases: Aliases) -> Any:
    """A struct as a mapping, with symbols for what each broker chooses."""
    out: dict[str, Any] = {}
    for spec in specs_of(type(value)):
        if spec.in_version(version):
            out[spec.name] = _field(spec.name, getattr(value, spec.name), version, aliases)
    return out


def _field(name: str, value: Any, version: int, aliases: Aliases) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list):
        items = [_field(name, item, version, aliases) for item in value]
        if name == "partition_ids":  # as a hash set has them
            return sorted(items)
        by = next((k for k in ("topic_id", "topic", "member_id") if k in _keys(items)), None)
        return items if by is None else sorted(items, key=lambda item: str(item[by]))
    if isinstance(value, int):
        return _number(name, value, aliases)
    if isinstance(value, str):
        return aliases.named(value) if "member" in name or name == "leader" else value
    if isinstance(value, bytes | memoryview):
        if name.endswith("topic_id"):
            return aliases.symbol("topic id", bytes(value))
        return bytes(value).hex()
    return _plain(value, version, aliases)


def _keys(items: list[Any]) -> Any:
    return items[0] if items and isinstance(items[0], dict) else ()


def _number(name: str, value: int, aliases: Aliases) -> Any:
    if name.endswith("producer_id"):
        return aliases.symbol("producer id", value)
    if name.endswith(("timestamp", "timestamp_ms")):
        return around_now(value)
    if name == "version":  # of the metadata that a pattern was resolved against
        return (value > 0) - (value < 0)
    if name == "metadata_hash":
        return aliases.symbol("metadata hash", value)
    return value
