"""confluent-kafka (librdkafka)."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from tests.e2e.clients.base import DEADLINE, DEFAULT_REPLICATION, GroupEditor
from tests.e2e.corpus import Item


class Confluent(GroupEditor):
    def _consumer(self, *, committed: bool = False) -> Consumer:
        return Consumer(
            {
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "bootstrap.servers": self.bootstrap,
                "group.id": "unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 100,
                "fetch.message.max.bytes": 2_000_000,
                "log_level": 0,
            }
        )

    def _admin(self) -> AdminClient:
        # the caller keeps it in a variable: futures of a collected AdminClient fail
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def produce(
        self,
        topic: str,
        items: Sequence[Item],
        codec: str = "none",
        *,
        idempotent: bool = False,
        acks: str = "all",
    ) -> list[int] | None:
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "compression.codec": codec,
                "enable.idempotence": idempotent,
                "acks": acks,
                "linger.ms": 5,
                "message.max.bytes": 2_000_000,
                "log_level": 0,
            }
        )
        offsets = [-2] * len(items)
        for number, item in enumerate(items):

            def delivered(error: KafkaError | None, message: Message, number: int = number) -> None:
                assert error is None, error
                offset = message.offset()
                offsets[number] = -1 if offset is None else offset

            producer.produce(
                topic,
                value=item.value,
                key=item.key,
                partition=item.partition,
                timestamp=item.timestamp,
                headers=list(item.headers),
                on_delivery=delivered,
            )
        assert producer.flush(DEADLINE) == 0
        assert -2 not in offsets
        return offsets

    def consume(
        self, topic: str, starts: Mapping[int, int], count: int, *, committed: bool = False
    ) -> list[Item]:
        consumer = self._consumer(committed=committed)
        try:
            consumer.assign([TopicPartition(topic, p, o) for p, o in starts.items()])
            got: list[Item] = []
            end = time.monotonic() + DEADLINE
            while len(got) < count:
                assert time.monotonic() < end, f"{len(got)} of {count} records"
                for message in consumer.consume(count - len(got), 1.0):
                    error = message.error()
                    if error is not None:
                        raise KafkaException(error)
                    got.append(_item(message))
            return got
        finally:
            consumer.close()

    def offsets_for_time(
        self, topic: str, partitions: Sequence[int], timestamp: int
    ) -> dict[int, int]:
        consumer = self._consumer()
        try:
            asked = [TopicPartition(topic, p, timestamp) for p in partitions]
            answered = consumer.offsets_for_times(asked, timeout=DEADLINE)
            return {p.partition: p.offset for p in answered}
        finally:
            consumer.close()

    def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        consumer = self._consumer()
        try:
            return {
                p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=DEADLINE)
                for p in partitions
            }
        finally:
            consumer.close()

    def partitions(self, topic: str) -> int | None:
        found = self._admin().list_topics(timeout=DEADLINE).topics.get(topic)
        return None if found is None else len(found.partitions)

    def create_topic(
        self,
        topic: str,
        partitions: int,
        configs: Mapping[str, str] | None = None,
        replicas: int = DEFAULT_REPLICATION,
    ) -> None:
        new = NewTopic(topic, partitions, replicas, config=dict(configs or {}))
        admin = self._admin()
        admin.create_topics([new])[topic].result(DEADLINE)

    def delete_topic(self, topic: str) -> None:
        admin = self._admin()
        admin.delete_topics([topic])[topic].result(DEADLINE)

    def read_configs(self, topic: str) -> dict[str, str | None]:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        admin = self._admin()
        entries: dict[str, Any] = admin.describe_configs([resource])[resource].result(DEADLINE)
        return {name: entry.value for name, entry in entries.items()}

    def alter_configs(self, topic: str, configs: Mapping[str, str]) -> None:
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in configs.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
        admin = self._admin()
        admin.incremental_alter_configs([resource])[resource].result(DEADLINE)

    def add_partitions(self, topic: str, total: int) -> None:
        admin = self._admin()
        admin.create_partitions([NewPartitions(topic, total)])[topic].result(DEADLINE)

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        asked = TopicPartition(topic, partition, before)
        admin = self._admin()
        (done,) = admin.delete_records([asked]).values()
        return int(done.result(DEADLINE).low_watermark)

    def _describe(self, group: str) -> Any:
        admin = self._admin()
        return admin.describe_consumer_groups([group])[group].result(DEADLINE)

    def group_state(self, group: str) -> str:
        return str(self._describe(group).state.name).lower().replace("_", "")

    def group_members(self, group: str) -> dict[str, set[tuple[str, int]]]:
        return {
            member.client_id: {
                (place.topic, place.partition) for place in member.assignment.topic_partitions
            }
            for member in self._describe(group).members
        }

    def groups(self) -> set[str]:
        admin = self._admin()
        return {found.group_id for found in admin.list_consumer_groups().result(DEADLINE).valid}

    def group_offsets(self, group: str) -> dict[tuple[str, int], int]:
        admin = self._admin()
        asked = [ConsumerGroupTopicPartitions(group)]
        found = admin.list_consumer_group_offsets(asked)[group].result(DEADLINE)
        return {(p.topic, p.partition): p.offset for p in found.topic_partitions}

    def alter_group_offsets(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        admin = self._admin()
        places = [TopicPartition(*place, offset) for place, offset in offsets.items()]
        asked = [ConsumerGroupTopicPartitions(group, places)]
        admin.alter_consumer_group_offsets(asked)[group].result(DEADLINE)

    def delete_group(self, group: str) -> str:
        admin = self._admin()
        try:
            admin.delete_consumer_groups([group])[group].result(DEADLINE)
        except KafkaException as error:
            return str(error.args[0].name())
        return ""


def _item(message: Message) -> Item:
    partition = message.partition()
    assert partition is not None
    return Item(
        partition,
        message.timestamp()[1],
        _bytes(message.key()),
        _bytes(message.value()),
        tuple((name, value) for name, value in message.headers() or ()),
    )


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
