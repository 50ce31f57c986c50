"""DescribeAcls, CreateAcls and DeleteAcls (KIP-140) at a broker without an authorizer."""

from typing import Any

from compat.script import Run, case

TOPIC, CLUSTER = 2, 4
LITERAL, PREFIXED = 3, 4
READ, ALLOW = 3, 3


def _rule(**other: Any) -> dict[str, Any]:
    return {
        "resource_type": TOPIC,
        "resource_name": "t",
        "resource_pattern_type": LITERAL,
        "principal": "User:a",
        "host": "*",
        "operation": READ,
        "permission_type": ALLOW,
        **other,
    }


def _filter(**other: Any) -> dict[str, Any]:
    return {
        "resource_type_filter": TOPIC,
        "resource_name_filter": None,
        "pattern_type_filter": LITERAL,
        "principal_filter": None,
        "host_filter": None,
        "operation": READ,
        "permission_type": ALLOW,
        **other,
    }


@case("DescribeAcls")
def describe(run: Run) -> None:
    run.call(**_filter(), step="topics")
    run.call(**_filter(resource_type_filter=1, operation=1, permission_type=1), step="all")
    for number in (0, 8, -1):
        run.call(**_filter(resource_type_filter=number), step=f"type {number}", link=f"t{number}")
    for number in (0, 14, 16, -1):
        run.call(**_filter(operation=number), step=f"operation {number}", link=f"o{number}")
    for number in (0, 4):
        run.call(**_filter(permission_type=number), step=f"permit {number}", link=f"p{number}")


@case("DescribeAcls", (1, 3))
def patterns(run: Run) -> None:
    for number in (0, 1, 2, PREFIXED, 5):
        run.call(**_filter(pattern_type_filter=number), step=f"type {number}", link=f"{number}")


@case("CreateAcls")
def create(run: Run) -> None:
    run.call(creations=[], step="none")
    run.call(creations=[_rule()], step="one")
    run.call(creations=[_rule(), _rule(resource_type=CLUSTER, resource_name="x")], step="two")
    run.call(creations=[_rule(operation=1)], step="any operation")
    run.call(creations=[_rule(principal="a")], step="no principal")
    run.call(creations=[_rule(resource_name="")], step="no name")
    run.call(creations=[_rule(), _rule(operation=0)], step="unknown operation", link="1")
    run.call(creations=[_rule(resource_type=9)], step="unknown type", link="2")
    run.call(creations=[_rule(permission_type=4)], step="unknown permission", link="3")


@case("DeleteAcls")
def delete(run: Run) -> None:
    run.call(filters=[], step="none")
    run.call(filters=[_filter()], step="one")
    run.call(filters=[_filter(), _filter(principal_filter="User:a")], step="two")
    run.call(filters=[_filter(), _filter(operation=0)], step="unknown operation", link="1")
    run.call(filters=[_filter(resource_type_filter=0)], step="unknown type", link="2")
    run.call(filters=[_filter(permission_type=-1)], step="unknown permission", link="3")


@case("DescribeAcls")
def malformed(run: Run) -> None:
    run.send_body("DescribeAcls", run.version, b"", step="no body", link="1")
    run.send_body("CreateAcls", run.version, b"", step="no rules", link="2")
    run.send_body("DeleteAcls", run.version, b"\xff", step="no filters", link="3")
