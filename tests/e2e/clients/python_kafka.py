"""kafka-python, the current release."""

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

with warnings.catch_warnings():
    # its import still calls importlib.resources.read_text, deprecated in Python 3.11
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.structs import OffsetAndMetadata

from tests.e2e.clients.base import DEADLINE, DEFAULT_REPLICATION, GroupEditor
from tests.e2e.corpus import Item


class KafkaPython(GroupEditor):
    @classmethod
    def fit(cls, item: Item) -> Item:
        # it refuses null header values, and a record with neither key nor value
        headers = tuple((name, value or b"") for name, value in item.headers)
        key = b"" if item.key is None and item.value is None else item.key
        return replace(item, key=key, headers=headers)

    def produce(
        self,
        topic: str,
        items: Sequence[Item],
        codec: str = "none",
        *,
        idempotent: bool = False,
        acks: str = "all",
    ) -> list[int] | None:
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent,
            acks="all" if acks == "all" else int(acks),
            linger_ms=5,
            max_request_size=2_000_000,
        )
        try:
            waiting = [
                producer.send(
                    topic,
                    value=item.value,
                    key=item.key,
                    partition=item.partition,
                    timestamp_ms=item.timestamp,
                    headers=list(item.headers),
                )
                for item in items
            ]
            producer.flush(DEADLINE)
            return [future.get(DEADLINE).offset for future in waiting]
        finally:
            producer.close(DEADLINE)

    def consume(
        self, topic: str, starts: Mapping[int, int], count: int, *, committed: bool = False
    ) -> list[Item]:
        with self._consumer(committed=committed) as consumer:
            places = {TopicPartition(topic, p): o for p, o in starts.items()}
            consumer.assign(list(places))
            for place, offset in places.items():
                if offset == -2:
                    consumer.seek_to_beginning(place)
                else:
                    consumer.seek(place, offset)
            got: list[Item] = []
            end = time.monotonic() + DEADLINE
            while len(got) < count:
                assert time.monotonic() < end, f"{len(got)} of {count} records"
                several = consumer.poll(timeout_ms=1000, max_records=count - len(got))
                got += [
                    Item(r.partition, r.timestamp, r.key, r.value, tuple(r.headers))
                    for records in several.values()
                    for r in records
                ]
            return got

    def offsets_for_time(
        self, topic: str, partitions: Sequence[int], timestamp: int
    ) -> dict[int, int]:
        with self._consumer() as consumer:
            asked = {TopicPartition(topic, p): timestamp for p in partitions}
            answered = consumer.offsets_for_times(asked)
            return {p.partition: -1 if o is None else o.offset for p, o in answered.items()}

    def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        with self._consumer() as consumer:
            places = [TopicPartition(topic, p) for p in partitions]
            first = consumer.beginning_offsets(places)
            last = consumer.end_offsets(places)
            return {p.partition: (first[p], last[p]) for p in places}

    def partitions(self, topic: str) -> int | None:
        with self._admin() as admin:
            if topic not in admin.list_topics():
                return None
            (found,) = admin.describe_topics([topic])
            return len(found["partitions"])

    def create_topic(
        self, topic: str, partitions: int, configs: Mapping[str, str] | None = None
    ) -> None:
        new = {
            "num_partitions": partitions,
            "replication_factor": DEFAULT_REPLICATION,
            "configs": configs or {},
        }
        with self._admin() as admin:
            admin.create_topics({topic: new})

    def delete_topic(self, topic: str) -> None:
        with self._admin() as admin:
            admin.delete_topics([topic])

    def read_configs(self, topic: str) -> dict[str, str | None]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        with self._admin() as admin:
            found = admin.describe_configs([resource], config_filter="all")["topic"][topic]
            return {name: entry["value"] for name, entry in found.items()}

    def alter_configs(self, topic: str, configs: Mapping[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict(configs))
        with self._admin() as admin:
            assert admin.alter_configs([resource]) == {"topic": {topic: "OK"}}

    def add_partitions(self, topic: str, total: int) -> None:
        with self._admin() as admin:
            admin.create_partitions({topic: total})

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        place = TopicPartition(topic, partition)
        with self._admin() as admin:
            return int(admin.delete_records({place: before})[place]["low_watermark"])

    def group_state(self, group: str) -> str:
        with self._admin() as admin:
            return str(admin.describe_groups([group])[group]["group_state"]).lower()

    def group_members(self, group: str) -> dict[str, set[tuple[str, int]]]:
        with self._admin() as admin:
            members = admin.describe_groups([group])[group]["members"]
        return {
            member["client_id"]: {
                (found["topic"], partition)
                for found in member["member_assignment"]["assigned_partitions"]
                for partition in found["partitions"]
            }
            for member in members
        }

    def groups(self) -> set[str]:
        with self._admin() as admin:
            return {found["group_id"] for found in admin.list_groups()}

    def group_offsets(self, group: str) -> dict[tuple[str, int], int]:
        with self._admin() as admin:
            found = admin.list_group_offsets({group: None})[group]
        return {(p.topic, p.partition): committed.offset for p, committed in found.items()}

    def alter_group_offsets(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        asked = {TopicPartition(*p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()}
        with self._admin() as admin:
            for error in admin.alter_group_offsets(group, asked).values():
                if error.errno:
                    raise error()

    def delete_group(self, group: str) -> str:
        with self._admin() as admin:
            told = str(admin.delete_groups([group])[group])
        return {"OK": "", "NonEmptyGroupError": "NON_EMPTY_GROUP"}.get(told, told)

    @contextlib.contextmanager
    def _consumer(self, *, committed: bool = False) -> Iterator[KafkaConsumer]:
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="none",
            enable_auto_commit=False,
            isolation_level="read_committed" if committed else "read_uncommitted",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=2_000_000,
        )
        try:
            yield consumer
        finally:
            consumer.close()

    @contextlib.contextmanager
    def _admin(self) -> Iterator[KafkaAdminClient]:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            yield admin
        finally:
            admin.close()
