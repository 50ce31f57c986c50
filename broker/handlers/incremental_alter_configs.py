"""IncrementalAlterConfigs (key 44): set, delete, append to or subtract from single settings of
topics, brokers, loggers, client metrics or groups (KIP-339).

Versions 0-1: 1 flexible. Levels of loggers are KIP-412, client metrics KIP-714.

Codes and their order are Apache Kafka 3.9's; client metrics and groups are altered as by 4.4. As
there, deleting what is not set is no error, and an operation that does not exist is an unknown
server error for all but brokers. Left out: policies, authorization, passwords (they cannot be
stored), listeners changed while the broker runs.
"""

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING

from broker import config_writes, logging_setup
from broker.config_changes import (
    TOPIC_TABLE,
    Change,
    Operation,
    Resource,
    changed,
    check_entries,
    refuse,
)
from broker.config_writes import Edit, Outcome
from broker.settings import CLIENT_METRICS, GROUPS, SETTINGS
from protocol.errors import ErrorCode
from protocol.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse | Awaitable[IncrementalAlterConfigsResponse]:
    """Refuse what can be refused at once; write the rest, one resource after the other."""
    validate_only = request.validate_only
    edits = [_edit(resource, validate_only) for resource in request.resources]
    names = [(r.resource_type, r.resource_name) for r in request.resources]
    return config_writes.carry_out(
        node,
        names,
        edits,
        validate_only=validate_only,
        answer=lambda outcomes: _answer(request, outcomes),
    )


def _answer(
    request: IncrementalAlterConfigsRequest, outcomes: list[Outcome]
) -> IncrementalAlterConfigsResponse:
    return IncrementalAlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                code, message, resource.resource_type, resource.resource_name
            )
            for resource, (code, message) in zip(request.resources, outcomes, strict=True)
        ]
    )


def _edit(resource: AlterConfigsResource, validate_only: bool) -> Edit:
    kind = resource.resource_type
    changes = [Change(c.name, c.config_operation, c.value) for c in resource.configs]

    def edit(present: Mapping[str, str]) -> dict[str, str]:
        check_entries(
            (c.name for c in changes),
            (c.name for c in changes if c.value is None and c.operation != Operation.DELETE),
        )
        if kind == Resource.TOPIC:
            if resource.resource_name in (".", ".."):
                refuse(ErrorCode.INVALID_CONFIG, "No topic can have that name.")
            return changed(present, changes, TOPIC_TABLE)
        if kind == Resource.BROKER:
            code = ErrorCode.INVALID_REQUEST
            return changed(present, changes, SETTINGS, unknown_operation=code)
        if kind == Resource.CLIENT_METRICS:
            return changed(present, changes, CLIENT_METRICS, lists=False)
        if kind == Resource.GROUP:
            return changed(present, changes, GROUPS, lists=False)
        _check_levels(changes)
        if not validate_only:
            _change_levels(changes)
        return {}

    return edit


def _check_levels(changes: list[Change]) -> None:
    """All changes of levels are checked before the first is made."""
    for name, operation, value in changes:
        if operation in (Operation.APPEND, Operation.SUBTRACT):
            refuse(ErrorCode.INVALID_REQUEST, "A level is no list: it can be set or deleted.")
        if operation not in (Operation.SET, Operation.DELETE):
            refuse(ErrorCode.UNKNOWN_SERVER_ERROR, None)
        if not logging_setup.exists(name):
            refuse(ErrorCode.INVALID_CONFIG, f"There is no logger {name}.")
        if operation == Operation.SET and value not in logging_setup.LEVELS:
            levels = ", ".join(logging_setup.LEVELS)
            refuse(
                ErrorCode.INVALID_CONFIG, f"{value} is no level of a logger; there are {levels}."
            )
        if operation == Operation.DELETE and name == logging_setup.ROOT:
            refuse(ErrorCode.INVALID_REQUEST, "The root logger always has a level.")


def _change_levels(changes: list[Change]) -> None:
    for name, operation, value in changes:
        if operation == Operation.DELETE:
            logging_setup.unset_level(name)
        elif value is not None:
            logging_setup.set_level(name, value)
