"""Settings of single groups, resource type 32 of the configuration APIs, as Apache Kafka 4.4 has
them. `synonyms` names the broker's setting that holds where a group sets nothing.
"""

import re
from typing import Any

from storage.settings import Kind, Setting, at_least, one_of

_B, _S, _I, _LIST = Kind.BOOLEAN, Kind.STRING, Kind.INT, Kind.LIST

_DURATION = re.compile(
    r"by_duration:(?i:\+?P(?:\+?([0-9]+)D)?"
    r"(T(?:\+?([0-9]+)H)?(?:\+?([0-9]+)M)?(?:\+?([0-9]+)(?:[.,]([0-9]{0,9}))?S)?)?)"
)
"""ISO 8601 as Java reads it, nothing negative."""


def duration_ms(reset: str) -> int | None:
    """Milliseconds of a reset strategy by_duration:PnDTnHnMn.nS; None for other texts."""
    match = _DURATION.fullmatch(reset)
    if match is None or match[2] in ("T", "t"):
        return None
    days, hours, minutes, seconds, fraction = match.group(1, 3, 4, 5, 6)
    if days is hours is minutes is seconds is None:
        return None
    whole = (int(days or 0) * 24 + int(hours or 0)) * 3600 + int(minutes or 0) * 60
    return (whole + int(seconds or 0)) * 1000 + int((fraction or "").ljust(3, "0")[:3])


def _reset(value: Any) -> str | None:
    if value in ("earliest", "latest") or duration_ms(value) is not None:
        return None
    return "must be earliest, latest or by_duration:PnDTnHnMn.nS"


# fmt: off
ROWS: tuple[Setting, ...] = (
    Setting("consumer.session.timeout.ms", _I, "45000",
        "Session timeout of members of a consumer group.", at_least(1),
        synonyms=("group.consumer.session.timeout.ms",)),
    Setting("consumer.heartbeat.interval.ms", _I, "5000",
        "Time between heartbeats that members of a consumer group are told to keep.", at_least(1),
        synonyms=("group.consumer.heartbeat.interval.ms",)),
    Setting("consumer.assignment.interval.ms", _I, "1000",
        "Least time between two assignments of a consumer group.", at_least(0),
        synonyms=("group.consumer.assignment.interval.ms",)),
    Setting("share.session.timeout.ms", _I, "45000",
        "Session timeout of members of a share group.", at_least(1),
        synonyms=("group.share.session.timeout.ms",)),
    Setting("share.heartbeat.interval.ms", _I, "5000",
        "Time between heartbeats that members of a share group are told to keep.", at_least(1),
        synonyms=("group.share.heartbeat.interval.ms",)),
    Setting("share.record.lock.duration.ms", _I, "30000",
        "How long a record stays with the member that got it.", at_least(1000),
        synonyms=("group.share.record.lock.duration.ms",)),
    Setting("share.delivery.count.limit", _I, "5",
        "Times a record is handed out before it is given up.", at_least(2),
        synonyms=("group.share.delivery.count.limit",)),
    Setting("share.partition.max.record.locks", _I, "2000",
        "Records of a partition that may be out at a time.", at_least(100),
        synonyms=("group.share.partition.max.record.locks",)),
    Setting("share.auto.offset.reset", _S, "latest",
        "Where a share group begins in a partition: earliest, latest, or by_duration:PnDTnHnMn.nS "
        "for the records of so long a time.", _reset),
    Setting("share.isolation.level", _S, "read_uncommitted",
        "Whether a share group sees records of transactions that were given up.",
        one_of("read_committed", "read_uncommitted")),
    Setting("share.renew.acknowledge.enable", _B, "true",
        "Whether members may renew the locks of records."),
    Setting("share.assignment.interval.ms", _I, "1000",
        "Least time between two assignments of a share group.", at_least(0),
        synonyms=("group.share.assignment.interval.ms",)),
    Setting("streams.session.timeout.ms", _I, "45000",
        "Session timeout of members of a streams group.", at_least(1),
        synonyms=("group.streams.session.timeout.ms",)),
    Setting("streams.heartbeat.interval.ms", _I, "5000",
        "Time between heartbeats that members of a streams group are told to keep.", at_least(1),
        synonyms=("group.streams.heartbeat.interval.ms",)),
    Setting("streams.num.standby.replicas", _I, "0",
        "Standby copies of a streams task's state.", at_least(0),
        synonyms=("group.streams.num.standby.replicas",)),
    Setting("streams.initial.rebalance.delay.ms", _I, "3000",
        "How long a new streams group waits for more members.", at_least(0),
        synonyms=("group.streams.initial.rebalance.delay.ms",)),
    Setting("streams.assignment.interval.ms", _I, "1000",
        "Least time between two assignments of a streams group.", at_least(0),
        synonyms=("group.streams.assignment.interval.ms",)),
    Setting("streams.rack.aware.assignment.tags", _LIST, "",
        "Client tags by which standby copies are spread.",
        synonyms=("group.streams.rack.aware.assignment.tags",)),
    Setting("streams.assignor.name", _S, "sticky",
        "Assignor of a streams group.", synonyms=("group.streams.assignors",)),
    Setting("errors.deadletterqueue.topic.name", _S, "",
        "Topic for records that a share group gives up; kept without effect, there are no dead "
        "letter queues at this level of share.version."),
    Setting("errors.deadletterqueue.copy.record.enable", _B, "false",
        "Whether such records are copied there; kept without effect."),
)
# fmt: on
