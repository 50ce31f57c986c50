"""Requests about access rules, without an authorizer."""

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from protocol.errors import ErrorCode
from protocol.messages.create_acls import AclCreation, CreateAclsRequest
from protocol.messages.delete_acls import DeleteAclsFilter, DeleteAclsRequest
from protocol.messages.describe_acls import DescribeAclsRequest
from tests.kit.threaded import ThreadedBroker
from tests.kit.wire import ConnectionClosed, Wire

DISABLED = ErrorCode.SECURITY_DISABLED
TOPIC, LITERAL, READ, ALLOW = 2, 3, 3, 3


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    with ThreadedBroker() as broker:
        yield broker.bootstrap


@pytest.mark.parametrize("version", range(4))
def test_each_rule_and_filter_is_refused(bootstrap: str, version: int) -> None:
    wanted = DescribeAclsRequest(TOPIC, None, LITERAL, None, None, READ, ALLOW)
    rule = AclCreation(TOPIC, "t", LITERAL, "User:a", "*", READ, ALLOW)
    going = DeleteAclsFilter(TOPIC, None, LITERAL, None, None, READ, ALLOW)
    with Wire(bootstrap) as wire:
        described = wire.call(wanted, version)
        assert (described.error_code, described.resources) == (DISABLED, [])
        assert described.error_message == "No Authorizer is configured on the broker"
        created = wire.call(CreateAclsRequest([rule, rule]), version)
        assert [r.error_code for r in created.results] == [DISABLED] * 2
        deleted = wire.call(DeleteAclsRequest([going, going]), version)
        assert [r.error_code for r in deleted.filter_results] == [DISABLED] * 2


@pytest.mark.parametrize(
    "request_",
    [
        DescribeAclsRequest(TOPIC, None, LITERAL, None, None, 0, ALLOW),
        CreateAclsRequest([AclCreation(0, "t", LITERAL, "User:a", "*", READ, ALLOW)]),
        DeleteAclsRequest([DeleteAclsFilter(TOPIC, None, LITERAL, None, None, READ, 0)]),
    ],
    ids=["describe", "create", "delete"],
)
def test_an_unknown_element_ends_the_connection(bootstrap: str, request_: Any) -> None:
    with Wire(bootstrap) as wire, pytest.raises(ConnectionClosed):
        wire.call(request_, 3)


def test_a_client_is_told_why(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    what = (
        ResourceType.TOPIC,
        "t",
        ResourcePatternType.LITERAL,
        "User:a",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    (created,) = admin.create_acls([AclBinding(*what)]).values()
    (deleted,) = admin.delete_acls([AclBindingFilter(*what)]).values()
    for asked in (created, deleted):
        with pytest.raises(KafkaException) as refused:
            asked.result(10)
        assert refused.value.args[0].code() == DISABLED
