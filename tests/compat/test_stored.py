"""What a case left in an internal topic, as the comparer sees it."""

from typing import Any

from compat.compare import differing
from compat.normal import Aliases
from compat.script import fitted
from compat.stored import OFFSETS, TRANSACTIONS, _of_batch
from protocol import batch
from protocol.batch import batches
from protocol.record import Record
from protocol.stored.consumer_offsets import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
    encode_key,
    encode_value,
)
from protocol.stored.transaction_state import TransactionLogKey, TransactionLogValue

UUID = "01234567-89ab-cdef-0123-456789abcdef"


def offset(partition: int, value: OffsetCommitValue | None, version: int = 3) -> Record:
    key = encode_key(OffsetCommitKey("g", "t", partition))
    return Record(0, 0, key, None if value is None else encode_value(value, version), ())


def read(topic: str, data: bytes, *owners: str, aliases: Aliases | None = None) -> list[Any]:
    """The records of these owners in some batches."""
    aliases = aliases or Aliases("h", 1)
    producers: set[int] = set()
    out: list[Any] = []
    for position, header in batches(data):
        out += _of_batch(topic, data, position, header, owners, producers, aliases)
    return out


def test_records_of_one_batch_come_in_the_order_of_their_keys_and_others_are_left_out() -> None:
    stranger = Record(0, 0, encode_key(OffsetCommitKey("other", "t", 0)), None, ())
    rows = [offset(1, OffsetCommitValue(7)), stranger, offset(0, OffsetCommitValue(5))]
    found = read(OFFSETS, batch.build(rows), "g")
    assert [(r["key"]["partition"], r["value"]["offset"], r["version"]) for r in found] == [
        (0, 5, 3),
        (1, 7, 3),
    ]
    assert read(OFFSETS, batch.build(rows), "nobody") == []


def test_ids_become_symbols_and_an_expiry_is_told_from_its_commit() -> None:
    member = MemberMetadata(f"c-{UUID}", None, "c", "/h", 1, 2, b"s", b"a")
    value = GroupMetadataValue("consumer", 1, "range", f"c-{UUID}", 5, [member])
    expiring = OffsetCommitValue(5, commit_timestamp=1000, expire_timestamp=1600)
    rows = [
        Record(0, 0, encode_key(GroupMetadataKey("g")), encode_value(value, 3), ()),
        offset(0, expiring, 1),
        offset(0, None),
    ]
    group, committed, tombstone = read(OFFSETS, batch.build(rows), "g")
    assert group["value"]["leader"] == group["value"]["members"][0]["member_id"] == "c-<uuid 1>"
    assert committed["value"]["expire_timestamp"] == "committed + 600"
    assert tombstone["value"] is None
    assert "bytes" not in group


def test_markers_follow_the_records_of_their_producer() -> None:
    def written(producer: int) -> bytes:
        fields = {"producer_id": producer, "producer_epoch": 0, "base_sequence": 0}
        return batch.build([offset(0, OffsetCommitValue(5))], transactional=True, **fields)

    def marker(producer: int, commit: bool) -> bytes:
        return batch.build_end_txn_marker(
            producer_id=producer, producer_epoch=0, committed=commit, timestamp=0
        )

    data = written(40) + marker(41, True) + marker(40, False)
    record, end = read(OFFSETS, data, "g")
    assert record["producer_id"] == end["producer_id"] == "<producer id 1>"
    assert end["marker"] == "abort"


def test_a_value_that_would_be_written_otherwise_is_compared_as_bytes_too() -> None:
    key = encode_key(TransactionLogKey("tx"))
    value = encode_value(TransactionLogValue(7), 0)
    rows = [Record(0, 0, key, value, ()), Record(0, 0, key, value + b"?", ())]
    plain, longer = read(TRANSACTIONS, batch.build(rows), "tx")
    assert "bytes" not in plain
    assert longer["bytes"] == (value + b"?").hex()


def test_a_record_that_is_missing_does_not_shift_the_others() -> None:
    def record(number: int, value: int = 0) -> dict[str, Any]:
        return {"kind": "K", "key": {"n": number}, "value": {"v": value}}

    theirs = [record(0), record(1), record(2), record(3)]
    ours = [record(1), record(2, 9), record(3), {"marker": "commit"}]
    assert list(differing(theirs, ours, "records")) == [
        ("records[0]", record(0), "<not there>"),
        ("records[2].value.v", 0, 9),
        ("records[3]", "<not there>", {"marker": "commit"}),
    ]


def test_uuids_inside_texts_are_symbols() -> None:
    aliases = Aliases("h", 1)
    assert aliases.named(f"client-{UUID}") == "client-<uuid 1>"
    assert aliases.named(f"i1-{UUID}") == "i1-<uuid 1>"
    assert aliases.named("AAAAAAAAAAAAAAAAAAAAAQ") == "<uuid 2>"
    assert aliases.named("g:AAAAAAAAAAAAAAAAAAAAAQ:0") == "g:<uuid 2>:0"
    assert aliases.named("nobody") == "nobody"
    copy = aliases.copy()
    copy.named("AAAAAAAAAAAAAAAAAAAAAg")
    assert aliases.named("AAAAAAAAAAAAAAAAAAAAAw") == "<uuid 3>"


def test_fields_are_fitted_to_a_version_at_every_depth() -> None:
    partition = {"partition_index": 0, "committed_offset": 1, "commit_timestamp": 5}
    fields = {"group_id": "g", "group_instance_id": "i", "topics": [
        {"name": "t", "topic_id": bytes(16), "partitions": [partition]}
    ]}  # fmt: skip
    old = fitted("OffsetCommit", 1, fields)
    assert old == {"group_id": "g", "topics": [{"name": "t", "partitions": [partition]}]}
    new = fitted("OffsetCommit", 10, fields)
    assert new["group_instance_id"] == "i"
    assert "name" not in new["topics"][0]
    assert "commit_timestamp" not in new["topics"][0]["partitions"][0]
