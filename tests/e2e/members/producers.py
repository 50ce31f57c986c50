"""Transactional producers of the stock clients, all with the same few calls."""

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as AioPartition
from aiokafka.errors import ProducerFenced
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as ConfluentPartition

from tests.e2e.members.base import DEADLINE, Place

with warnings.catch_warnings():
    # its import still calls importlib.resources.read_text, deprecated in Python 3.11
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaConsumer, KafkaProducer
    from kafka import TopicPartition as KafkaPartition
    from kafka.errors import KafkaError as KafkaPythonError
    from kafka.structs import OffsetAndMetadata


class Fenced(Exception):
    """The client says that another producer has its transactional id, or that its epoch is old."""


class TransactionalProducer(ABC):
    """A client's producer; making it runs InitProducerId. Everything is synchronous."""

    @abstractmethod
    def __init__(self, bootstrap: str, transactional_id: str, timeout_ms: int = 60_000) -> None: ...

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def send(self, place: Place, value: bytes) -> None:
        """Send a record and wait until it is acknowledged. Raises Fenced."""

    @abstractmethod
    def send_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Commit offsets for a group within the transaction."""

    @abstractmethod
    def commit(self) -> None:
        """Raises Fenced."""

    @abstractmethod
    def abort(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class ConfluentProducer(TransactionalProducer):
    def __init__(self, bootstrap: str, transactional_id: str, timeout_ms: int = 60_000) -> None:
        self.bootstrap = bootstrap
        self.client = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeout_ms,
                "message.timeout.ms": timeout_ms,
                "linger.ms": 0,
                "log_level": 0,
            }
        )
        self.client.init_transactions(DEADLINE)

    def begin(self) -> None:
        self.client.begin_transaction()

    def send(self, place: Place, value: bytes) -> None:
        problems: list[KafkaError | None] = []
        try:
            self.client.produce(
                place[0], value, partition=place[1], on_delivery=lambda e, _: problems.append(e)
            )
            # a fatal error is raised from here too
            assert self.client.flush(DEADLINE) == 0
        except KafkaException as error:
            raise _confluent(error.args[0]) from error
        except SystemError as error:
            # or while the callback runs
            if not isinstance(error.__cause__, KafkaException):
                raise
            raise _confluent(error.__cause__.args[0]) from error
        if problems[0] is not None:
            raise _confluent(problems[0])

    def send_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        # the metadata of a consumer that has not joined: no member id, no generation
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0}
        )
        try:
            places = [ConfluentPartition(*place, offset) for place, offset in offsets.items()]
            metadata = consumer.consumer_group_metadata()
            self.client.send_offsets_to_transaction(places, metadata, DEADLINE)
        finally:
            consumer.close()

    def commit(self) -> None:
        try:
            self.client.commit_transaction(DEADLINE)
        except KafkaException as error:
            raise _confluent(error.args[0]) from error

    def abort(self) -> None:
        self.client.abort_transaction(DEADLINE)

    def close(self) -> None:
        del self.client


def _confluent(error: KafkaError) -> Exception:
    fenced = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError._PURGE_QUEUE)
    text = error.str().lower()
    if error.code() in fenced or "fenced" in text or "epoch" in text:
        return Fenced(error.str())
    return KafkaException(error)


class AioKafkaProducer(TransactionalProducer):
    def __init__(self, bootstrap: str, transactional_id: str, timeout_ms: int = 60_000) -> None:
        self.loop = asyncio.new_event_loop()

        async def start() -> AIOKafkaProducer:
            client = AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                transactional_id=transactional_id,
                transaction_timeout_ms=timeout_ms,
            )
            await client.start()
            return client

        self.client = self._run(start())

    def _run(self, what: Any) -> Any:
        try:
            return self.loop.run_until_complete(asyncio.wait_for(what, DEADLINE))
        except ProducerFenced as error:
            raise Fenced(str(error)) from error

    def begin(self) -> None:
        self._run(self.client.begin_transaction())

    def send(self, place: Place, value: bytes) -> None:
        self._run(self.client.send_and_wait(place[0], value, partition=place[1]))

    def send_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        asked = {AioPartition(*place): offset for place, offset in offsets.items()}
        self._run(self.client.send_offsets_to_transaction(asked, group))

    def commit(self) -> None:
        self._run(self.client.commit_transaction())

    def abort(self) -> None:
        self._run(self.client.abort_transaction())

    def close(self) -> None:
        try:
            self._run(self.client.stop())
        except Fenced:
            pass  # said before
        finally:
            self.loop.close()


class KafkaPythonProducer(TransactionalProducer):
    def __init__(self, bootstrap: str, transactional_id: str, timeout_ms: int = 60_000) -> None:
        self.bootstrap = bootstrap
        self.client = KafkaProducer(
            bootstrap_servers=bootstrap,
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
        )
        self.client.init_transactions()

    @staticmethod
    def _wrap(what: Any, *arguments: Any) -> Any:
        try:
            return what(*arguments)
        except KafkaPythonError as error:
            if "Fenced" in repr(error) or "Epoch" in repr(error):
                raise Fenced(repr(error)) from error
            raise

    def begin(self) -> None:
        self.client.begin_transaction()

    def send(self, place: Place, value: bytes) -> None:
        sent = self._wrap(lambda: self.client.send(place[0], value, partition=place[1]))
        self._wrap(sent.get, DEADLINE)

    def send_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group)
        try:
            asked = {
                KafkaPartition(*place): OffsetAndMetadata(offset, "", -1)
                for place, offset in offsets.items()
            }
            self.client.send_offsets_to_transaction(asked, consumer.group_metadata())
        finally:
            consumer.close()

    def commit(self) -> None:
        self._wrap(self.client.commit_transaction)

    def abort(self) -> None:
        self.client.abort_transaction()

    def close(self) -> None:
        self.client.close(1)


PRODUCERS: dict[str, type[TransactionalProducer]] = {
    "confluent": ConfluentProducer,
    "aiokafka": AioKafkaProducer,
    "kafka-python": KafkaPythonProducer,
}
