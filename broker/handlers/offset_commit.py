"""OffsetCommit (key 8): a group's consumer commits offsets.

Versions 0-10: 1 member and generation, commit times; 2 a retention instead of commit times; 3
throttle time (KIP-124); 4 throttling after the answer (KIP-219); 5 no retention any more (KIP-211);
6 leader epochs (KIP-320); 7 static members (KIP-345); 8 flexible (KIP-482); 9 members of KIP-848;
10 topic ids for names, GROUP_ID_NOT_FOUND (KIP-848).

Version 0 keeps offsets apart, as Apache Kafka 3.9 does in ZooKeeper: what is committed with it is
read with OffsetFetch 0 and nothing else, belongs to no member and has no metadata
(`broker.cluster.old_offsets`). Any broker answers it.

A partition named twice is answered once in versions 1-9, as in Apache Kafka; the last offset
counts. Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.groups.commit_rows import read_rows
from broker.groups.offset_table import Committed
from broker.groups.offsets import Committer, Write, fill, too_long
from protocol.errors import ErrorCode
from protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

TOPIC_ID_SINCE = 10


def handle(node: "Node", context: "Context", request: OffsetCommitRequest) -> Any:
    """The response, or who will have it."""
    version, group_id = context.version, request.group_id
    response, writes = _read(node, version, request)
    if not writes:
        return response
    if version == 0:
        return _commit_old(node, group_id, writes, response)
    committer = Committer(
        request.member_id,
        request.group_instance_id,
        request.generation_id_or_member_epoch,
        version,
    )

    def refused(code: ErrorCode) -> OffsetCommitResponse:
        fill(writes, code)
        return response

    return node.groups.write(
        group_id,
        lambda machine, who, now_ms: machine.offsets.commit(
            group_id, committer, writes, response, who, now_ms
        ),
        refused,
    )


def _read(
    node: "Node", version: int, request: OffsetCommitRequest
) -> tuple[OffsetCommitResponse, list[Write]]:
    now_ms, retention = node.clock.now_ms(), request.retention_time_ms
    expires = -1 if retention == -1 else now_ms + retention
    topics, writes = read_rows(
        node.metadata.view,
        request.topics,
        by_id=version >= TOPIC_ID_SINCE,
        once=0 < version < TOPIC_ID_SINCE,
        apart=version >= TOPIC_ID_SINCE,
        topic_row=OffsetCommitResponseTopic,
        partition_row=OffsetCommitResponsePartition,
        committed=lambda asked: _committed(asked, now_ms, expires),
    )
    return OffsetCommitResponse(topics=topics), writes


def _committed(asked: OffsetCommitRequestPartition, now_ms: int, expires: int) -> Committed:
    return Committed(
        asked.committed_offset,
        asked.committed_leader_epoch,
        asked.committed_metadata or "",
        now_ms if asked.commit_timestamp == -1 else asked.commit_timestamp,
        expires,
    )


async def _commit_old(
    node: "Node", group_id: str, writes: list[Write], response: OffsetCommitResponse
) -> OffsetCommitResponse:
    longest = node.config.offset_metadata_max_bytes
    for write in writes:
        if too_long(write.committed.metadata, longest):
            write.answer.error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE
        else:
            write.answer.error_code = await node.old_offsets.commit(
                group_id, write.topic, write.partition, write.committed.offset
            )
    return response
