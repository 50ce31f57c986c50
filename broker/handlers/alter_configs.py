"""AlterConfigs (key 33): replace all settings of topics, brokers, client metrics or groups
(KIP-133).

Versions 0-2: 1 throttling after the answer (KIP-219); 2 flexible. A broker accepts changes for
itself and, under the name "", for all brokers (KIP-226).

Codes and their order are Apache Kafka 3.9's; client metrics and groups are altered as by 4.4. A
request that names a resource twice is refused with INVALID_REQUEST; Apache Kafka never answers it.
Left out: policies, authorization, passwords (they cannot be stored).
"""

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING

from broker import config_writes
from broker.config_changes import Resource, check_entries
from broker.config_writes import Edit, Outcome
from broker.controller.topics import Refused
from protocol.errors import ErrorCode
from protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: AlterConfigsRequest
) -> AlterConfigsResponse | Awaitable[AlterConfigsResponse]:
    """Refuse what can be refused at once; write the rest, one resource after the other."""
    edits = [_edit(resource) for resource in request.resources]
    names = [(r.resource_type, r.resource_name) for r in request.resources]
    return config_writes.carry_out(
        node,
        names,
        edits,
        validate_only=request.validate_only,
        answer=lambda outcomes: _answer(request, outcomes),
    )


def _answer(request: AlterConfigsRequest, outcomes: list[Outcome]) -> AlterConfigsResponse:
    return AlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                code, message, resource.resource_type, resource.resource_name
            )
            for resource, (code, message) in zip(request.resources, outcomes, strict=True)
        ]
    )


def _edit(resource: AlterConfigsResource) -> Edit:
    entries = resource.configs

    def edit(_: Mapping[str, str]) -> dict[str, str]:
        if resource.resource_type == Resource.BROKER_LOGGER:
            raise Refused(
                ErrorCode.INVALID_REQUEST, "Levels of loggers are altered one by one only."
            )
        check_entries((e.name for e in entries), (e.name for e in entries if e.value is None))
        return {e.name: e.value for e in entries if e.value is not None}

    return edit
