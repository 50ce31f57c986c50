"""DeleteGroups (key 42): groups and their offsets are deleted (KIP-229).

Versions 0-3: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482); 3 a sentence with an
error (none is given, as in Apache Kafka). A group with members is NON_EMPTY_GROUP. A group named
twice is answered once. The states of a share group's partitions are deleted before it is; where
that fails, the group stays. Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.waiting import gather
from protocol.errors import ErrorCode
from protocol.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

Results = list[DeletableGroupResult]


def handle(node: "Node", context: "Context", request: DeleteGroupsRequest) -> Any:
    """The response, or who will have it once the deletions are on record."""
    results = [DeletableGroupResult(name) for name in dict.fromkeys(request.groups_names)]
    states = [_delete_states(node, result.group_id) for result in results]

    def deleted(codes: list[ErrorCode]) -> Any:
        for result, code in zip(results, codes, strict=True):
            result.error_code = code
        return _delete_groups(node, results)

    return gather(states, deleted)


def _delete_states(node: "Node", group_id: str) -> Any:
    """The code of a share group's states, NONE of other groups; or who will have it."""
    machine = node.groups.find(group_id)
    if isinstance(machine, ErrorCode) or not machine.has_share_group(group_id):
        return ErrorCode.NONE
    return node.shares.groups.delete_states(group_id)


def _delete_groups(node: "Node", results: Results) -> Any:
    """Those that nothing stands against yet."""
    by_partition: dict[int | None, Results] = {}
    for result in (result for result in results if not result.error_code):
        index = node.groups.partition_for(result.group_id)
        by_partition.setdefault(index, []).append(result)
    parts = [_delete(node, index, part) for index, part in by_partition.items()]
    return gather(parts, lambda _: DeleteGroupsResponse(results=results))


def _delete(node: "Node", index: int | None, results: Results) -> Any:
    """The groups of one coordinator; their results have a code when it answers."""

    def refused(code: ErrorCode) -> Results:
        for result in results:
            result.error_code = code
        return results

    return node.groups.write_at(
        index,
        lambda machine, who, now_ms: machine.offsets.delete_groups(results, who),
        refused,
    )
