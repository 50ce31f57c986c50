"""Members of consumer groups, one stock client each, and the watch that checks what they do.

A `Member` is a thread that owns one client and polls it until told to leave. Tests tell it things
(`commit`, `seek`, ...) that it does between two polls, and wait for what its group's `Watch` has
seen, never for time.
"""

from tests.e2e.members.base import Broken, Member, Place, Watch
from tests.e2e.members.python_aiokafka import AioKafkaMember
from tests.e2e.members.python_confluent import ConfluentMember
from tests.e2e.members.python_kafka import KafkaPythonMember

KINDS: dict[str, tuple[type[Member], str]] = {
    "confluent": (ConfluentMember, "range"),
    "confluent-cooperative": (ConfluentMember, "cooperative-sticky"),
    "confluent-consumer": (ConfluentMember, "consumer"),
    "aiokafka": (AioKafkaMember, "range"),
    "kafka-python": (KafkaPythonMember, "range"),
    "kafka-python-cooperative": (KafkaPythonMember, "cooperative-sticky"),
}
"""Client and the way of its group: an assignor of the classic protocol, or "consumer" (KIP-848)."""

__all__ = ["KINDS", "Broken", "Member", "Place", "Watch"]
