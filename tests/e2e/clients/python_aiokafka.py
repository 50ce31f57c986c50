"""aiokafka."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocol

from tests.e2e.clients.base import DEADLINE, DEFAULT_REPLICATION, Library
from tests.e2e.corpus import Item

T = TypeVar("T")


class AioKafka(Library):
    @classmethod
    def fit(cls, item: Item) -> Item:
        # it refuses a record with neither key nor value
        return replace(item, key=b"") if item.key is None and item.value is None else item

    def produce(
        self,
        topic: str,
        items: Sequence[Item],
        codec: str = "none",
        *,
        idempotent: bool = False,
        acks: str = "all",
    ) -> list[int] | None:
        async def go() -> list[int]:
            producer = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                compression_type=None if codec == "none" else codec,
                enable_idempotence=idempotent,
                acks="all" if acks == "all" else int(acks),
                linger_ms=5,
                max_request_size=2_000_000,
            )
            await producer.start()
            try:
                waiting = [
                    await producer.send(
                        topic,
                        value=item.value,
                        key=item.key,
                        partition=item.partition,
                        timestamp_ms=item.timestamp,
                        headers=list(item.headers),
                    )
                    for item in items
                ]
                return [-1 if done is None else done.offset for done in await _all(waiting)]
            finally:
                await producer.stop()

        return _run(go())

    def consume(
        self, topic: str, starts: Mapping[int, int], count: int, *, committed: bool = False
    ) -> list[Item]:
        async def go() -> list[Item]:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.bootstrap,
                auto_offset_reset="none",
                enable_auto_commit=False,
                isolation_level="read_committed" if committed else "read_uncommitted",
                fetch_max_wait_ms=100,
                max_partition_fetch_bytes=2_000_000,
            )
            await consumer.start()
            try:
                places = {TopicPartition(topic, p): o for p, o in starts.items()}
                consumer.assign(list(places))
                for place, offset in places.items():
                    if offset == -2:
                        await consumer.seek_to_beginning(place)
                    else:
                        consumer.seek(place, offset)
                got: list[Item] = []
                while len(got) < count:
                    several = await consumer.getmany(timeout_ms=1000, max_records=count - len(got))
                    got += [_item(record) for records in several.values() for record in records]
                return got
            finally:
                await consumer.stop()

        return _run(go())

    def offsets_for_time(
        self, topic: str, partitions: Sequence[int], timestamp: int
    ) -> dict[int, int]:
        async def go(consumer: AIOKafkaConsumer) -> dict[int, int]:
            asked = {TopicPartition(topic, p): timestamp for p in partitions}
            answered = await consumer.offsets_for_times(asked)
            return {p.partition: -1 if o is None else o.offset for p, o in answered.items()}

        return self._asking(go)

    def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        async def go(consumer: AIOKafkaConsumer) -> dict[int, tuple[int, int]]:
            places = [TopicPartition(topic, p) for p in partitions]
            first = await consumer.beginning_offsets(places)
            last = await consumer.end_offsets(places)
            return {p.partition: (first[p], last[p]) for p in places}

        return self._asking(go)

    def partitions(self, topic: str) -> int | None:
        async def go(admin: AIOKafkaAdminClient) -> int | None:
            for found in await admin.describe_topics():
                if found["topic"] == topic:
                    return len(found["partitions"])
            return None

        return self._admin(go)

    def create_topic(
        self, topic: str, partitions: int, configs: Mapping[str, str] | None = None
    ) -> None:
        new = NewTopic(topic, partitions, 1, topic_configs=dict(configs or {}))
        new.replication_factor = DEFAULT_REPLICATION  # its constructor refuses -1

        async def go(admin: AIOKafkaAdminClient) -> None:
            answer = await admin.create_topics([new])
            assert [error[:2] for error in answer.topic_errors] == [(topic, 0)], answer

        self._admin(go)

    def delete_topic(self, topic: str) -> None:
        async def go(admin: AIOKafkaAdminClient) -> None:
            answer = await admin.delete_topics([topic])
            assert list(answer.topic_error_codes) == [(topic, 0)], answer

        self._admin(go)

    def read_configs(self, topic: str) -> dict[str, str | None]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)

        async def go(admin: AIOKafkaAdminClient) -> dict[str, str | None]:
            (answer,) = await admin.describe_configs([resource])
            ((error, _, _, name, entries),) = answer.resources
            assert (error, name) == (0, topic), answer
            return {entry[0]: entry[1] for entry in entries}

        return self._admin(go)

    def alter_configs(self, topic: str, configs: Mapping[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict(configs))

        async def go(admin: AIOKafkaAdminClient) -> None:
            (answer,) = await admin.alter_configs([resource])
            assert [entry[0] for entry in answer.resources] == [0], answer

        self._admin(go)

    def add_partitions(self, topic: str, total: int) -> None:
        async def go(admin: AIOKafkaAdminClient) -> None:
            answer = await admin.create_partitions({topic: NewPartitions(total)})
            assert [error[:2] for error in answer.topic_errors] == [(topic, 0)], answer

        self._admin(go)

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        place = TopicPartition(topic, partition)

        async def go(admin: AIOKafkaAdminClient) -> int:
            return (await admin.delete_records({place: RecordsToDelete(before)}))[place]

        return self._admin(go)

    def _describe(self, group: str) -> Any:
        async def go(admin: AIOKafkaAdminClient) -> Any:
            (answer,) = await admin.describe_consumer_groups([group])
            (found,) = answer.groups
            return found

        return self._admin(go)

    def group_state(self, group: str) -> str:
        return str(self._describe(group)[2]).lower()

    def group_members(self, group: str) -> dict[str, set[tuple[str, int]]]:
        members = {}
        for _, client_id, _, _, assignment, *_ in self._describe(group)[5]:
            topics = ConsumerProtocol.ASSIGNMENT.decode(assignment).assignment
            members[client_id] = {(topic, p) for topic, partitions in topics for p in partitions}
        return members

    def groups(self) -> set[str]:
        async def go(admin: AIOKafkaAdminClient) -> set[str]:
            return {found[0] for found in await admin.list_consumer_groups()}

        return set(self._admin(go))

    def group_offsets(self, group: str) -> dict[tuple[str, int], int]:
        async def go(admin: AIOKafkaAdminClient) -> dict[tuple[str, int], int]:
            found = await admin.list_consumer_group_offsets(group)
            return {(p.topic, p.partition): committed.offset for p, committed in found.items()}

        return dict(self._admin(go))

    def _admin(self, what: Any) -> Any:
        async def go() -> Any:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                return await what(admin)
            finally:
                await admin.close()

        return _run(go())

    def _asking(self, what: Any) -> Any:
        async def go() -> Any:
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
            await consumer.start()
            try:
                return await what(consumer)
            finally:
                await consumer.stop()

        return _run(go())


async def _all(waiting: list[Any]) -> list[Any]:
    return list(await asyncio.gather(*waiting))


def _run(what: Awaitable[T]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(what, DEADLINE)

    return asyncio.run(bounded())


def _item(record: Any) -> Item:
    return Item(record.partition, record.timestamp, record.key, record.value, tuple(record.headers))
