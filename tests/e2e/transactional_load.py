"""Transactions one after the other over every partition of a topic, and what must hold of them
afterwards: each is read whole or not at all, once, in order.
"""

import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.e2e.load import Brokers


class TransactionalLoad:
    """One number a transaction, written to all partitions; every third one is aborted."""

    def __init__(
        self, cluster: Brokers, topic: str, partitions: int, transactional_id: str
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._partitions = partitions
        self._name = transactional_id
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self.committed: list[str] = []
        self.aborted: set[str] = set()
        self.unknown: set[str] = set()
        """Their end was asked for, and then the client gave up."""
        self._thread = threading.Thread(target=self._guarded)
        self._thread.start()

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self._failure = error

    def _run(self) -> None:
        producer = self._producer()
        number = 0
        while not self._ended.is_set():
            value = f"{self._name}/{number}"
            number += 1
            commit, ending = number % 3 != 0, False
            try:
                producer.begin_transaction()
                for partition in range(self._partitions):
                    producer.produce(self._topic, value, partition=partition)
                ending = True
                self._end(producer, commit)
            except KafkaException as error:
                if not self._recovered(producer, error):
                    (self.unknown if ending and commit else self.aborted).add(value)
                    producer = self._producer()
                else:
                    self.aborted.add(value)
            else:
                if commit:
                    self.committed.append(value)
                else:
                    self.aborted.add(value)

    def _producer(self) -> Producer:
        made = Producer(
            {
                "bootstrap.servers": self._cluster.bootstrap,
                "transactional.id": self._name,
                "transaction.timeout.ms": 60_000,
                "retry.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "topic.metadata.refresh.fast.interval.ms": 20,
                "log_level": 2,
            }
        )
        while True:
            try:
                made.init_transactions(60)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
            else:
                return made

    @staticmethod
    def _end(producer: Producer, commit: bool) -> None:
        """Until it is decided. Raises KafkaException when that cannot be had by waiting."""
        while True:
            try:
                if commit:
                    producer.commit_transaction(30)
                else:
                    producer.abort_transaction(30)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
            else:
                return

    def _recovered(self, producer: Producer, error: KafkaException) -> bool:
        """Whether the producer has aborted and can go on."""
        if not error.args[0].txn_requires_abort():
            return False
        try:
            self._end(producer, False)
        except KafkaException:
            return False
        return True

    def go_on(self, count: int, timeout_s: float = 90.0) -> None:
        """Wait until so many more are committed."""
        wanted = len(self.committed) + count
        end = time.monotonic() + timeout_s
        while len(self.committed) < wanted:
            if self._failure is not None:
                raise self._failure
            assert time.monotonic() < end, "transactions do not go on"
            time.sleep(0.01)

    def stop(self) -> None:
        """No more."""
        self._ended.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure

    def check(self) -> None:
        """Hold what a read_committed consumer sees against what was done."""
        seen: list[str] | None = None
        for partition in range(self._partitions):
            values = [v for v in self.read(partition) if v.startswith(f"{self._name}/")]
            assert seen is None or values == seen, f"{partition}: not the transactions of others"
            seen = values
            order = [int(value.rpartition("/")[2]) for value in values]
            assert order == sorted(set(order)), f"{partition}: doubled or out of order"
            missing = set(self.committed) - set(values)
            assert not missing, f"{partition} lacks {sorted(missing)[:5]}"
            more = set(values) - set(self.committed) - self.unknown
            assert not more, f"{partition} has what was aborted: {sorted(more)[:5]}"

    def read(self, partition: int) -> list[str]:
        """All a read_committed consumer sees of a partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._cluster.bootstrap,
                "group.id": "reader",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        found = []
        try:
            consumer.assign([TopicPartition(self._topic, partition, 0)])
            end = time.monotonic() + 60
            while True:
                assert time.monotonic() < end, f"{len(found)} read of {partition}"
                for message in consumer.consume(500, 1.0):
                    if message.error() is not None:
                        return found
                    value = message.value()
                    assert value is not None
                    found.append(value.decode())
        finally:
            consumer.close()
