"""AlterPartition (key 56): a leader asks the controller for another ISR (KIP-497).

Versions 0-3: 1 leader recovery state (KIP-704); 2 topic ids for names, INELIGIBLE_REPLICA where
there was OPERATION_NOT_ATTEMPTED (KIP-841); 3 broker epochs of the ISR's members (KIP-903), which
ZooKeeper mode does not look at.

Asked of a broker that is not the controller: NOT_CONTROLLER. A recovery state that there is not:
UNKNOWN_SERVER_ERROR. Left out: authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broker.context import ApiError
from broker.controller.run import NotController
from broker.controller.topics import Refused
from protocol.errors import ErrorCode
from protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    RequestPartitionData,
    ResponsePartitionData,
    ResponseTopicData,
)

if TYPE_CHECKING:
    from broker.context import Context, Node
    from broker.controller.elect import Wish
    from broker.controller.service import IsrAnswer

RECOVERY_STATES = (0, 1)
IDS_SINCE = 2
EPOCHS_SINCE = 3


def handle(
    node: "Node", context: "Context", request: AlterPartitionRequest
) -> AlterPartitionResponse | Awaitable[AlterPartitionResponse]:
    """Ask the controller, if it is here."""
    if not node.controller.active:
        return AlterPartitionResponse(error_code=ErrorCode.NOT_CONTROLLER)
    return _handle(node, context.version, request)


async def _handle(
    node: "Node", version: int, request: AlterPartitionRequest
) -> AlterPartitionResponse:
    try:
        names = await node.controller.topic_names() if version >= IDS_SINCE else {}
    except NotController:
        return AlterPartitionResponse(error_code=ErrorCode.NOT_CONTROLLER)
    wishes: list[Wish] = []
    waiting: list[ResponsePartitionData] = []
    response = AlterPartitionResponse()
    for topic in request.topics:
        answers = ResponseTopicData(topic.topic_name, topic.topic_id)
        response.topics.append(answers)
        name = names.get(topic.topic_id) if version >= IDS_SINCE else topic.topic_name
        for asked in topic.partitions:
            answer = ResponsePartitionData(asked.partition_index)
            answers.partitions.append(answer)
            if name is None:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_ID
            else:
                wishes.append(_wish(name, version, asked))
                waiting.append(answer)
    try:
        found = await node.controller.alter_isr(request.broker_id, request.broker_epoch, wishes)
    except NotController:
        return AlterPartitionResponse(error_code=ErrorCode.NOT_CONTROLLER)
    except Refused as refused:
        return AlterPartitionResponse(error_code=refused.refusal.code)
    for answer, one in zip(waiting, found, strict=True):
        _fill(answer, version, one)
    return response


def _wish(name: str, version: int, asked: RequestPartitionData) -> "Wish":
    from broker.controller.elect import Wish

    if version >= EPOCHS_SINCE:
        isr = tuple(broker.broker_id for broker in asked.new_isr_with_epochs)
    else:
        isr = tuple(asked.new_isr)
    if asked.leader_recovery_state not in RECOVERY_STATES:
        raise ApiError(
            ErrorCode.UNKNOWN_SERVER_ERROR,
            f"There is no leader recovery state {asked.leader_recovery_state}.",
        )
    return Wish(
        (name, asked.partition_index),
        asked.leader_epoch,
        isr,
        asked.partition_epoch,
        asked.leader_recovery_state == 1,
    )


def _fill(answer: ResponsePartitionData, version: int, found: "IsrAnswer") -> None:
    if isinstance(found, ErrorCode):
        if found == ErrorCode.INELIGIBLE_REPLICA and version < IDS_SINCE:
            found = ErrorCode.OPERATION_NOT_ATTEMPTED
        answer.error_code = found
        return
    leadership, answer.partition_epoch = found
    answer.leader_id = leadership.leader
    answer.leader_epoch = leadership.leader_epoch
    answer.isr = list(leadership.isr)
    answer.leader_recovery_state = int(leadership.recovering)
