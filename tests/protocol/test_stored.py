"""Records of the coordinators' topics, and the blobs of consumers."""

import json
from pathlib import Path

import pytest

from protocol.errors import Malformed, UnsupportedField
from protocol.stored import consumer_groups, consumer_offsets, share_group_state, transaction_state
from protocol.stored.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    TopicPartition,
    decode_assignment,
    decode_subscription,
    encode_value,
)
from protocol.stored.versioned import decode_versioned, leading_int16

CAPTURED = Path(__file__).parent / "captured_frames" / "stored.jsonl"
TOPICS = {
    "__consumer_offsets": consumer_offsets,
    "__transaction_state": transaction_state,
    "__share_group_state": share_group_state,
}


def test_what_kafka_wrote_is_read_and_written_the_same() -> None:
    kinds = set()
    for line in CAPTURED.read_text().splitlines():
        row = json.loads(line)
        topic = TOPICS[row["topic"]]
        data = bytes.fromhex(row["key"])
        key = topic.decode_key(data)
        assert key is not None and topic.encode_key(key) == data
        if row["value"] is None:
            assert topic.decode_value(key.RECORD_TYPE, None) is None
            continue
        data = bytes.fromhex(row["value"])
        value = topic.decode_value(key.RECORD_TYPE, data)
        version = leading_int16(data)
        assert topic.encode_value(value, version) == data
        kinds.add((row["topic"], key.RECORD_TYPE, version))
    groups = {("__consumer_offsets", kind, 0) for kind in (3, 5, 6, 7, 8)}
    classic = {("__consumer_offsets", kind, version) for kind, version in ((1, 3), (1, 4), (2, 3))}
    assert kinds == groups | classic | {
        ("__transaction_state", 0, 0),
        ("__transaction_state", 0, 1),
    }


def test_offset_commit_bytes() -> None:
    key = consumer_offsets.OffsetCommitKey("g", "t", 2)
    assert consumer_offsets.encode_key(key) == b"\0\x01\0\x01g\0\x01t\0\0\0\x02"
    value = consumer_offsets.OffsetCommitValue(
        offset=5, leader_epoch=7, metadata="m", commit_timestamp=9
    )
    data = b"\0\x03" + (5).to_bytes(8, "big") + b"\0\0\0\x07\0\x01m" + (9).to_bytes(8, "big")
    assert consumer_offsets.encode_value(value, 3) == data
    assert consumer_offsets.decode_value(1, data) == value
    # The leader epoch has no place in version 1 and may be dropped; the expiry has one.
    value.expire_timestamp = 11
    old = consumer_offsets.decode_value(1, consumer_offsets.encode_value(value, 1))
    assert old is not None and (old.leader_epoch, old.expire_timestamp) == (-1, 11)


def test_both_kinds_of_offset_key_are_read() -> None:
    for kind in (0, 1):
        key = consumer_offsets.decode_key(kind.to_bytes(2, "big") + b"\0\x01g\0\x01t\0\0\0\x02")
        assert key is not None
        assert (key.RECORD_TYPE, key.group, key.topic, key.partition) == (kind, "g", "t", 2)


def test_null_is_written_out_in_tagged_structs() -> None:
    """A member of the new protocol has no classic metadata: Kafka writes tag 0, size 1, byte 0."""
    value = consumer_groups.ConsumerGroupMemberMetadataValue(
        instance_id=None,
        rack_id=None,
        subscribed_topic_regex=None,
        server_assignor=None,
        classic_member_metadata=None,
    )
    data = consumer_offsets.encode_value(value)
    assert data.endswith(b"\x01\x00\x01\x00")
    assert consumer_offsets.decode_value(5, data) == value
    value.classic_member_metadata = consumer_groups.ClassicMemberMetadata(session_timeout_ms=6)
    data = consumer_offsets.encode_value(value)
    assert data.endswith(b"\x01\x00\x07\x01\x00\x00\x00\x06\x01\x00")
    assert consumer_offsets.decode_value(5, data) == value
    value.classic_member_metadata = consumer_groups.ClassicMemberMetadata()
    assert consumer_offsets.encode_value(value).endswith(b"\xff\xff\xff\xff\x00\x00")


def test_kinds_of_later_releases_are_left_alone() -> None:
    assert consumer_offsets.decode_key(b"\x7f\x00whatever") is None
    assert consumer_offsets.decode_key(b"\xff\xff") is None


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\x09" + bytes(50), b"\xff\xff" + bytes(50), b"\0\x03\0"]
)
def test_bad_values_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        consumer_offsets.decode_value(1, data)


def test_bad_keys_are_malformed() -> None:
    with pytest.raises(Malformed):
        consumer_offsets.decode_key(b"\0")
    with pytest.raises(Malformed):
        consumer_offsets.decode_key(b"\0\x01\0\x05g")


def test_transaction_state_keeps_newer_fields_in_version_1_only() -> None:
    value = transaction_state.TransactionLogValue(producer_id=4, previous_producer_id=3)
    data = transaction_state.encode_value(value)
    assert leading_int16(data) == 1
    assert transaction_state.decode_value(0, data) == value
    with pytest.raises(UnsupportedField):
        transaction_state.encode_value(value, 0)


def test_subscription_of_every_version() -> None:
    full = ConsumerProtocolSubscription(
        topics=["a", "b"],
        user_data=b"u",
        owned_partitions=[TopicPartition("a", [0, 1])],
        generation_id=3,
        rack_id="r",
    )
    assert decode_subscription(encode_value(full)) == full
    read = [decode_subscription(encode_value(full, version)) for version in range(4)]
    assert [value.topics for value in read] == [["a", "b"]] * 4
    assert [len(value.owned_partitions) for value in read] == [0, 1, 1, 1]
    assert [value.generation_id for value in read] == [-1, -1, 3, 3]
    assert [value.rack_id for value in read] == [None, None, None, "r"]


def test_blobs_of_later_versions_are_read_as_the_highest_known() -> None:
    assignment = ConsumerProtocolAssignment([TopicPartition("a", [0])], b"x")
    data = bytearray(encode_value(assignment))
    data[0:2] = b"\0\x09"
    assert decode_assignment(bytes(data) + b"new field") == assignment


@pytest.mark.parametrize("data", [b"", b"\xff\xff\0\0\0\0", b"\0\0\0\0\0\x05", b"\0\x01\0\0\0\0"])
def test_bad_blobs_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_subscription(data)


def test_versions_of_values_are_checked() -> None:
    with pytest.raises(Malformed, match="has no version 2"):
        decode_versioned(transaction_state.TransactionLogValue, b"\0\x02" + bytes(60))
