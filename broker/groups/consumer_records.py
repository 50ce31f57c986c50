"""The records of consumer groups (KIP-848), made from members and read into them, as Apache Kafka
4.4 writes them: topic names sorted, partitions in the order in which they are held.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from broker.coordinator import StoredRecord
from broker.groups.assignors import Assignment
from broker.groups.common import stored
from broker.groups.hash_order import SMALLEST, copied_set, grown, partitions_ordered
from protocol.stored import consumer_groups as stored_groups
from protocol.stored.consumer_groups import (
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey,
    ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
)

if TYPE_CHECKING:
    from broker.groups.consumer_group import ConsumerMember, Held, ResolvedRegex


# --- making them


def group_record(group_id: str, epoch: int, metadata_hash: int) -> StoredRecord:
    """The group's epoch, and the hash of its topics at that time."""
    return stored(
        ConsumerGroupMetadataKey(group_id), ConsumerGroupMetadataValue(epoch, metadata_hash)
    )


def member_record(group_id: str, member: "ConsumerMember") -> StoredRecord:
    """What a member said about itself."""
    classic = None
    if member.classic is not None:
        classic = stored_groups.ClassicMemberMetadata(
            member.classic.session_timeout_ms,
            [stored_groups.ClassicProtocol(name, data) for name, data in member.classic.protocols],
        )
    value = ConsumerGroupMemberMetadataValue(
        member.instance_id,
        member.rack_id,
        member.client_id,
        member.client_host,
        sorted(member.topics),
        member.regex,
        member.rebalance_timeout_ms,
        member.assignor,
        classic,
    )
    return stored(ConsumerGroupMemberMetadataKey(group_id, member.member_id), value)


def target_record(group_id: str, member_id: str, assignment: Assignment) -> StoredRecord:
    """A member's part of the target."""
    topics = [
        stored_groups.TopicPartition(topic_id, list(partitions))
        for topic_id, partitions in assignment.items()
    ]
    return stored(
        ConsumerGroupTargetAssignmentMemberKey(group_id, member_id),
        ConsumerGroupTargetAssignmentMemberValue(topics),
    )


def target_epoch_record(group_id: str, epoch: int, at_ms: int) -> StoredRecord:
    """The target is complete; it was computed at that time."""
    return stored(
        ConsumerGroupTargetAssignmentMetadataKey(group_id),
        ConsumerGroupTargetAssignmentMetadataValue(epoch, at_ms),
    )


def current_record(group_id: str, member: "ConsumerMember") -> StoredRecord:
    """How far a member is."""
    value = ConsumerGroupCurrentMemberAssignmentValue(
        member.epoch,
        member.previous_epoch,
        member.state,
        _topic_partitions(member.assigned),
        _topic_partitions(member.revoking),
    )
    return stored(ConsumerGroupCurrentMemberAssignmentKey(group_id, member.member_id), value)


def _topic_partitions(held: "Held") -> list[stored_groups.TopicPartitions]:
    return [
        stored_groups.TopicPartitions(topic_id, list(partitions), list(partitions.values()))
        for topic_id, partitions in held.items()
    ]


def regex_record(group_id: str, regex: str, resolved: "ResolvedRegex") -> StoredRecord:
    """The topics that a pattern matches."""
    value = ConsumerGroupRegularExpressionValue(
        sorted(resolved.topics), resolved.version, resolved.at_ms
    )
    return stored(ConsumerGroupRegularExpressionKey(group_id, regex), value)


def regex_tombstone(group_id: str, regex: str) -> StoredRecord:
    """Nobody subscribes by that pattern any more."""
    return stored(ConsumerGroupRegularExpressionKey(group_id, regex), None)


def old_metadata_tombstone(group_id: str) -> StoredRecord:
    """Of the record that Kafka 4.0 wrote in place of the hash."""
    return stored(ConsumerGroupPartitionMetadataKey(group_id), None)


def member_tombstones(group_id: str, member_id: str) -> list[StoredRecord]:
    """A member is gone; in this order."""
    return [
        stored(ConsumerGroupCurrentMemberAssignmentKey(group_id, member_id), None),
        stored(ConsumerGroupTargetAssignmentMemberKey(group_id, member_id), None),
        stored(ConsumerGroupMemberMetadataKey(group_id, member_id), None),
    ]


def group_tombstones(
    group_id: str, members: Sequence[str], regexes: Iterable[str]
) -> list[StoredRecord]:
    """A group and these members are gone."""
    each = [member_tombstones(group_id, member_id) for member_id in members]
    return [
        *(current for current, _, _ in each),
        *(target for _, target, _ in each),
        stored(ConsumerGroupTargetAssignmentMetadataKey(group_id), None),
        *(member for _, _, member in each),
        *(regex_tombstone(group_id, regex) for regex in regexes),
        old_metadata_tombstone(group_id),
        stored(ConsumerGroupMetadataKey(group_id), None),
    ]


# --- reading them


def target_of(value: ConsumerGroupTargetAssignmentMemberValue) -> Assignment:
    """A member's part of the target."""
    found = {
        t.topic_id: partitions_ordered(t.partitions, copied_set(len(t.partitions)))
        for t in value.topic_partitions
        if t.partitions
    }
    return dict(sorted(found.items()))


def held_of(topics: Iterable[stored_groups.TopicPartitions], member_epoch: int) -> "Held":
    """Partitions with their epochs; records of Kafka before 4.3 have none: the member's, then."""
    found: dict[bytes, dict[int, int]] = {}
    for topic in topics:
        epochs = topic.assignment_epochs or [member_epoch] * len(topic.partitions)
        since = dict(zip(topic.partitions, epochs, strict=False))
        if since:
            found[topic.topic_id] = in_map_order(since, grown(SMALLEST, len(since)))
    return dict(sorted(found.items()))


def in_map_order(partitions: Mapping[int, int], table: int) -> dict[int, int]:
    """The same in the order of a HashMap with so many places."""
    return {partition: partitions[partition] for partition in partitions_ordered(partitions, table)}
