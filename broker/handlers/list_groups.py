"""ListGroups (key 16): the groups that this broker coordinates, of all kinds.

Versions 0-5: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 flexible
(KIP-482); 4 states, as a filter and in the answer (KIP-518); 5 types likewise (KIP-848).

Filters do not care about upper and lower case, and what they name may be unknown. While groups are
being loaded, those that are there are listed with COORDINATOR_LOAD_IN_PROGRESS. Left out:
authorization.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from broker.groups.classic_group import EMPTY
from broker.groups.common import CLASSIC
from protocol.errors import ErrorCode
from protocol.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: ListGroupsRequest) -> ListGroupsResponse:
    """Answer from memory."""
    states = {state.lower() for state in request.states_filter}
    types = {kind.lower() for kind in request.types_filter}
    groups = [
        group
        for group in _all(node)
        if (not states or group.group_state.lower() in states)
        and (not types or group.group_type in types)
    ]
    loading = node.groups.loading
    code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if loading else ErrorCode.NONE
    return ListGroupsResponse(error_code=code, groups=groups)


def _all(node: "Node") -> Iterator[ListedGroup]:
    for machine in node.groups.machines():
        groups = machine.shared.groups
        for group in groups.values():
            yield ListedGroup(group.group_id, group.protocol_type, group.state_name, group.kind)
        for group_id in machine.offsets.table.groups():
            if group_id not in groups:
                yield ListedGroup(group_id, "", EMPTY, CLASSIC)
