"""Requests about access rules where there is no authorizer: they are read, and refused with
SECURITY_DISABLED, as by Apache Kafka without `authorizer.class.name`.
"""

from protocol.errors import Malformed

REFUSAL = "No Authorizer is configured."
REFUSAL_OF_ONE = "No Authorizer is configured on the broker"
"""What DescribeAcls is told."""
UNKNOWN = 0
"""In the place of a type of resource or pattern, an operation or a permission."""


def require_known(*elements: int) -> None:
    """Raises Malformed, which closes the connection, for UNKNOWN among a rule's or filter's types,
    operation and permission: Apache Kafka does not get through the parsing of such a request
    either. Numbers that mean nothing pass it.
    """
    if UNKNOWN in elements:
        raise Malformed("a rule or filter of ACLs with an unknown element")
