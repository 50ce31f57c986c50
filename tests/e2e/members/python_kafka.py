"""kafka-python in a group, with its range or its cooperative sticky assignor."""

import contextlib
import gc
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

with warnings.catch_warnings():
    # its import still calls importlib.resources.read_text, deprecated in Python 3.11
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
    from kafka.coordinator.assignors.cooperative_sticky import (
        CooperativeStickyAssignor,
    )
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.errors import CommitFailedError, RebalanceInProgressError
    from kafka.structs import OffsetAndMetadata

from tests.e2e.members.base import DEADLINE, POLL_SECONDS, Member, Place

REBALANCE_SECONDS = 0.8
ASSIGNORS = {
    "range": RangePartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


@contextlib.contextmanager
def refused_connections() -> Iterator[None]:
    """For tests whose broker is down for a while: kafka-python leaves the sockets of connections
    that were refused to the garbage collector, which warns of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


class KafkaPythonMember(Member):
    client: KafkaConsumer

    def _open(self) -> None:
        self.client = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=self.group,
            client_id=self.name,
            group_instance_id=self.instance,
            auto_offset_reset="earliest",
            enable_auto_commit=self.commits == "auto",
            auto_commit_interval_ms=100,
            partition_assignment_strategy=[ASSIGNORS[self.way]],
            session_timeout_ms=self.session_ms,
            heartbeat_interval_ms=100,
            fetch_max_wait_ms=50,
            metadata_max_age_ms=500,
            retry_backoff_ms=10,
        )
        listener = _Listener(self)
        if isinstance(self.topics, str):
            self.client.subscribe(pattern=self.topics, listener=listener)
        else:
            self.client.subscribe(list(self.topics), listener=listener)

    def _poll(self) -> None:
        # a rebalance that one poll does not finish is begun anew by the next
        settled = self.client.group_metadata().state == "<stable>"
        seconds = POLL_SECONDS if settled else REBALANCE_SECONDS
        several = self.client.poll(timeout_ms=int(seconds * 1000), max_records=500)
        for place, records in several.items():
            for record in records:
                where = (place.topic, place.partition)
                self.watch.read(self.name, where, record.offset, record.value)
        if self.commits == "each" and (several or self.owes_commit):
            self._commit(None)

    def _close(self) -> None:
        self.client.close()

    def _commit(self, offsets: Mapping[Place, int] | None) -> None:
        if offsets is not None:
            self.client.commit(_offsets(offsets))
            self.watch.was_committed(offsets)
            return
        mine = self.watch.share_of(self)
        now = {p: self.client.position(TopicPartition(*p), timeout_ms=5000) for p in mine}
        known = {place: offset for place, offset in now.items() if offset is not None}
        try:
            self.client.commit(_offsets(known))
        except (CommitFailedError, RebalanceInProgressError):
            self.owes_commit = True
            return
        self.owes_commit = False
        self.watch.was_committed(known)

    def _commit_async(self, offsets: Mapping[Place, int]) -> None:
        called = threading.Event()
        answers: list[Any] = []

        def callback(asked: Any, answer: Any) -> None:
            answers.append(answer)
            called.set()

        self.client.commit_async(_offsets(offsets), callback=callback)
        while not called.wait(0):
            # the call-back comes from inside a poll
            self._poll()
        assert not isinstance(answers[0], Exception), answers
        self.watch.was_committed(offsets)

    def _committed(self, places: list[Place]) -> dict[Place, int | None]:
        return {
            place: self.client.committed(TopicPartition(*place), timeout_ms=DEADLINE * 1000)
            for place in places
        }

    def _seek(self, place: Place, offset: int) -> None:
        self.client.seek(TopicPartition(*place), offset)

    def _position(self, place: Place) -> int:
        return int(self.client.position(TopicPartition(*place)))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, member: KafkaPythonMember) -> None:
        self.member = member

    def on_partitions_revoked(self, revoked: Any) -> None:
        # in the client's own thread, which must not block; what a poll gave is committed already
        self.member.watch.gave_up(self.member.name, _places(revoked))

    def on_partitions_assigned(self, assigned: Any) -> None:
        if not self.member.closing:
            self.member.watch.gained(self.member.name, _places(assigned))

    def on_partitions_lost(self, lost: Any) -> None:
        self.member.watch.gave_up(self.member.name, _places(lost))


def _places(places: Any) -> list[Place]:
    return [(place.topic, place.partition) for place in places]


def _offsets(offsets: Mapping[Place, int]) -> dict[Any, Any]:
    return {TopicPartition(*place): OffsetAndMetadata(o, "", -1) for place, o in offsets.items()}
