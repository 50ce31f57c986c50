"""DeleteShareGroupOffsets (key 92): a share group forgets where it was in topics (KIP-932).

Version 0. The states of their share partitions are deleted at the share coordinator. The group must
have no members, else NON_EMPTY_GROUP; a topic without states is UNKNOWN_TOPIC_OR_PARTITION. Served
where the feature share.version is finalized at 1, else UNSUPPORTED_VERSION. Left out:
authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.cluster.features import SHARE_VERSION
from broker.coordinator import Outcome, Waiting
from broker.groups.share_states import Partitions
from broker.shares.common import Refused, ShareKey
from broker.shares.state import Answer
from broker.waiting import then
from protocol.errors import ErrorCode
from protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
    DeleteShareGroupOffsetsResponseTopic,
)

if TYPE_CHECKING:
    from broker.context import Context, Node
    from broker.groups.machine import GroupMachine

Topic = DeleteShareGroupOffsetsResponseTopic


def handle(node: "Node", context: "Context", request: DeleteShareGroupOffsetsRequest) -> Any:
    """The response, or who will have it once the states are gone."""
    if node.features.level(SHARE_VERSION) < 1:
        return _refused(ErrorCode.UNSUPPORTED_VERSION)
    if not request.group_id:
        return _refused(ErrorCode.INVALID_GROUP_ID)
    deletion = _Deletion(node, request)
    deletion.begin()
    return then(deletion.result, lambda response: response)


class _Deletion:
    """On record as begun; the states are deleted; on record as done."""

    def __init__(self, node: "Node", request: DeleteShareGroupOffsetsRequest) -> None:
        self._node = node
        self._group_id = request.group_id
        self._names = [topic.topic_name for topic in request.topics]
        self._failed: list[Topic] = []
        self.result = Waiting(_refused)

    def begin(self) -> None:
        self._node.shares.groups.write(self._group_id, self._mark, _refusal, self._delete)

    def _mark(self, machine: "GroupMachine", who: Waiting, now_ms: int) -> Outcome:
        try:
            records, partitions = machine.share.states.begin_offset_deletion(
                self._group_id, self._names, self._lacks
            )
        except Refused as refused:
            return Outcome(replies=((who, refused),))
        return Outcome(records, ((who, partitions),))

    def _lacks(self, name: str, sentence: str | None) -> None:
        code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        self._failed.append(Topic(name, error_code=code, error_message=sentence or code.message))

    def _delete(self, begun: Partitions | Refused) -> None:
        if isinstance(begun, Refused):
            self.result.answer(_refused(begun.code, begun.message))
        elif not begun:
            self._answer([])
        else:
            self._node.shares.groups.delete(self._group_id, begun, self._deleted)

    def _deleted(self, answers: dict[ShareKey, Answer]) -> None:
        names = self._node.metadata.view.names
        rows: dict[bytes, Topic] = {}
        for key, answer in answers.items():
            topic_id = key.topic_id
            row = rows.setdefault(topic_id, Topic(names.get(topic_id, ""), topic_id))
            if answer.code and not row.error_code:
                row.error_code, row.error_message = answer.code, answer.code.message
        gone = [row for row in rows.values() if not row.error_code]
        self._failed += [row for row in rows.values() if row.error_code]
        if not gone:
            self._answer([])
            return

        def unmark(machine: "GroupMachine", who: Waiting, now_ms: int) -> Outcome:
            topic_ids = [row.topic_id for row in gone]
            outcome = machine.share.states.offsets_deleted(self._group_id, topic_ids)
            return Outcome(outcome.records, ((who, None),))

        self._node.shares.groups.write(
            self._group_id,
            unmark,
            _refused,
            lambda refused: self._answer(gone) if refused is None else self.result.answer(refused),
        )

    def _answer(self, gone: list[Topic]) -> None:
        self.result.answer(DeleteShareGroupOffsetsResponse(responses=gone + self._failed))


def _refusal(code: ErrorCode) -> Refused:
    return Refused(code, code.message)


def _refused(code: ErrorCode, message: str | None = None) -> DeleteShareGroupOffsetsResponse:
    return DeleteShareGroupOffsetsResponse(error_code=code, error_message=message or code.message)
