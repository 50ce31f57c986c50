"""confluent-kafka in a group: classic with any of its assignors, or the consumer protocol."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tests.e2e.members.base import DEADLINE, POLL_SECONDS, Member, Place

REBALANCE = {
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError._NO_OFFSET,
}
"""Answers to a commit that say: not yours any more, or nothing to commit."""


class ConfluentMember(Member):
    client: Consumer

    def settings(self) -> dict[str, Any]:
        """The client's configuration."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "group.id": self.group,
            "client.id": self.name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": self.commits == "auto",
            "auto.commit.interval.ms": 100,
            "fetch.wait.max.ms": 50,
            "topic.metadata.refresh.interval.ms": 500,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        }
        if self.way == "consumer":
            settings["group.protocol"] = "consumer"
        else:
            settings["partition.assignment.strategy"] = self.way
            settings["session.timeout.ms"] = self.session_ms
            settings["heartbeat.interval.ms"] = 100
        if self.instance is not None:
            settings["group.instance.id"] = self.instance
        return settings

    def _open(self) -> None:
        self.client = Consumer(self.settings())
        topics = [f"^{self.topics}"] if isinstance(self.topics, str) else list(self.topics)
        self.client.subscribe(
            topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def _assigned(self, client: Consumer, places: list[TopicPartition]) -> None:
        if not self.closing:
            self.watch.gained(self.name, _places(places))

    def _revoked(self, client: Consumer, places: list[TopicPartition]) -> None:
        if self.commits == "each" and not self.closing:
            self._commit(None)
        self.watch.gave_up(self.name, _places(places))

    def _lost(self, client: Consumer, places: list[TopicPartition]) -> None:
        self.watch.gave_up(self.name, _places(places))

    def _poll(self) -> None:
        messages = self.client.consume(500, POLL_SECONDS)
        for message in messages:
            self._take(message)
        if self.commits == "each" and (messages or self.owes_commit):
            self._commit(None)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART or error.retriable():
                return
            raise KafkaException(error)
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None and partition is not None and offset is not None
        value = message.value()
        assert not isinstance(value, str)
        self.watch.read(self.name, (topic, partition), offset, value)

    def _close(self) -> None:
        self.client.close()

    def _commit(self, offsets: Mapping[Place, int] | None) -> None:
        wanted = None if offsets is None else _offsets(offsets)
        try:
            if wanted is None:
                done = self.client.commit(asynchronous=False)
            else:
                done = self.client.commit(offsets=wanted, asynchronous=False)
        except KafkaException as error:
            code = error.args[0].code()
            if offsets is None and code in REBALANCE:
                self.owes_commit = code != KafkaError._NO_OFFSET
                return
            raise
        self.owes_commit = False
        self._note(done or ())

    def _note(self, done: Sequence[TopicPartition]) -> None:
        for place in done:
            if place.error is not None:
                raise KafkaException(place.error)
        self.watch.was_committed({(p.topic, p.partition): p.offset for p in done if p.offset >= 0})

    def _commit_async(self, offsets: Mapping[Place, int]) -> None:
        self.client.commit(offsets=_offsets(offsets), asynchronous=True)
        end = time.monotonic() + DEADLINE
        while self._committed(list(offsets)) != offsets:
            assert time.monotonic() < end, "the commit does not arrive"

    def _committed(self, places: list[Place]) -> dict[Place, int | None]:
        asked = [TopicPartition(topic, partition) for topic, partition in places]
        found = self.client.committed(asked, timeout=DEADLINE)
        return {(p.topic, p.partition): p.offset if p.offset >= 0 else None for p in found}

    def _seek(self, place: Place, offset: int) -> None:
        self.client.seek(TopicPartition(*place, offset))

    def _position(self, place: Place) -> int:
        (found,) = self.client.position([TopicPartition(*place)])
        return int(found.offset)


def _places(places: Sequence[TopicPartition]) -> list[Place]:
    return [(place.topic, place.partition) for place in places]


def _offsets(offsets: Mapping[Place, int]) -> list[TopicPartition]:
    return [TopicPartition(*place, offset) for place, offset in offsets.items()]
