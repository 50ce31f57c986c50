"""One worker of the exactly-once test, a process of its own that may be killed at any moment:

    python -m tests.e2e.exactly_once_worker CLIENT BOOTSTRAP INPUT OUTPUT GROUP ID SEED

Record b"n" of a partition of the input becomes b"n|token" in the same partition of the output; a
token stands for one attempt at one transaction. Now and then an attempt is given up after all its
records are in the log. Lines on standard output: `ready`, `flushed TOKEN COUNT` (an attempt that
will be given up), `committed COUNT`. It ends by itself with status FENCED or GAVE_UP (an error that
an application answers by starting anew).
"""

import asyncio
import faulthandler
import os
import random
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

FENCED = 3
GAVE_UP = 4
BATCH = 40
ABORTS = 0.15
PATIENCE = 10.0
SESSION_MS = 2000
TIMEOUT_MS = 20_000


def say(line: str) -> None:
    """One whole line at once, whatever happens next."""
    os.write(1, f"{line}\n".encode())


def end(status: int, reason: object) -> NoReturn:
    """End at once: nothing is closed, nobody is told."""
    say(f"ends {status} {reason}".replace("\n", " "))
    os._exit(status)


class Job:
    """What the command line said, and the tokens."""

    def __init__(self, arguments: list[str]) -> None:
        self.client, self.bootstrap, self.input, self.output, self.group, self.id = arguments[:6]
        self.chance = random.Random(int(arguments[6]))
        self._attempts = self._numbers()

    def _numbers(self) -> Iterator[int]:
        number = 0
        while True:
            number += 1
            yield number

    def token(self) -> str:
        """A name for an attempt that no other process uses."""
        return f"{self.id}.{os.getpid()}.{next(self._attempts)}"

    def gives_up(self) -> bool:
        """Whether this attempt is to be aborted."""
        return self.chance.random() < ABORTS


class Confluent:
    """confluent-kafka; the group's protocol is classic or, as confluent-consumer, KIP-848."""

    def __init__(self, job: Job) -> None:
        from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

        self.job = job
        self.error = KafkaException
        self.place = TopicPartition
        common = {
            "bootstrap.servers": job.bootstrap,
            "log_level": 0,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            # librdkafka 2.16 forgets a cluster whose only broker is down, and its producer may then
            # wait for ever in send_offsets_to_transaction for the broker that it has forgotten
            "metadata.recovery.strategy": "none",
        }
        self.producer = Producer(
            {
                **common,
                "transactional.id": job.id,
                "transaction.timeout.ms": TIMEOUT_MS,
                "linger.ms": 1,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 200,
            }
        )
        settings: dict[str, Any] = {
            **common,
            "group.id": job.group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
        }
        if job.client == "confluent-consumer":
            settings["group.protocol"] = "consumer"
        else:
            settings["session.timeout.ms"] = SESSION_MS
            settings["heartbeat.interval.ms"] = 200
        self.consumer = Consumer(settings)

    def run(self) -> None:
        """Until the end of the process."""
        self._insist(self.producer.init_transactions)
        self.consumer.subscribe([self.job.input])
        say("ready")
        while True:
            messages = self.consumer.consume(BATCH, 0.2)
            good = [message for message in messages if message.error() is None]
            if good:
                try:
                    self._attempt(good)
                except self.error as error:
                    self._failed(error)

    def _attempt(self, messages: list[Any]) -> None:
        token = self.job.token()
        problems: list[Any] = []
        self.producer.begin_transaction()
        for message in messages:
            self.producer.produce(
                self.job.output,
                message.value() + f"|{token}".encode(),
                partition=message.partition(),
                on_delivery=lambda error, _: problems.append(error) if error else None,
            )
        if self.job.gives_up():
            if self.producer.flush(PATIENCE) == 0 and not problems:
                say(f"flushed {token} {len(messages)}")
            self._abort()
            return
        offsets = self.consumer.position(self.consumer.assignment())
        metadata = self.consumer.consumer_group_metadata()
        self._insist(
            lambda seconds: self.producer.send_offsets_to_transaction(offsets, metadata, seconds)
        )
        self._insist(self.producer.commit_transaction)
        say(f"committed {len(messages)}")

    def _insist(self, call: Any) -> None:
        """Again where the client says that it may be called again."""
        for _ in range(3):
            try:
                call(PATIENCE)
                return
            except self.error as error:
                if not error.args[0].retriable():
                    raise
                last = error
        end(GAVE_UP, last)

    def _failed(self, error: Any) -> None:
        found = error.args[0]
        if found.fatal():
            fenced = "fenced" in found.str().lower() or "epoch" in found.str().lower()
            end(FENCED if fenced else GAVE_UP, found.str())
        if not found.txn_requires_abort():
            end(GAVE_UP, found.str())
        self._abort()

    def _abort(self) -> None:
        try:
            self._insist(self.producer.abort_transaction)
            # what was read in this attempt is read again
            places = self.consumer.committed(self.consumer.assignment(), timeout=PATIENCE)
            for place in places:
                offset = max(place.offset, 0)
                self.consumer.seek(self.place(place.topic, place.partition, offset))
        except self.error as error:
            if error.args[0].fatal():
                self._failed(error)
            end(GAVE_UP, error)


class AioKafka:
    """aiokafka. It does not tell the broker which member sends offsets (KIP-447), so that one
    worker at a time may do the work of a group; and it does not ask for stable offsets, so that it
    takes all partitions itself: after a rebalance it might read what a transaction that is decided,
    but not yet ended, has read already (as it does with Apache Kafka)."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def run(self) -> None:
        """Until the end of the process."""
        from aiokafka.errors import KafkaError, ProducerFenced

        try:
            asyncio.run(self._run())
        except ProducerFenced as error:
            end(FENCED, repr(error))
        except (KafkaError, TimeoutError) as error:
            end(GAVE_UP, repr(error))

    async def _run(self) -> None:
        from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

        self.producer = AIOKafkaProducer(
            bootstrap_servers=self.job.bootstrap,
            transactional_id=self.job.id,
            transaction_timeout_ms=TIMEOUT_MS,
            retry_backoff_ms=50,
        )
        # first: only then is what a worker before this one left behind decided
        await self.producer.start()
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=self.job.bootstrap,
            group_id=self.job.group,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
            retry_backoff_ms=50,
        )
        await self.consumer.start()
        partitions = await self.producer.partitions_for(self.job.input)
        self.consumer.assign([TopicPartition(self.job.input, number) for number in partitions])
        say("ready")
        while True:
            several = await self.consumer.getmany(timeout_ms=200, max_records=BATCH)
            if several:
                await asyncio.wait_for(self._attempt(several), PATIENCE)

    async def _attempt(self, several: dict[Any, list[Any]]) -> None:
        token = self.job.token()
        await self.producer.begin_transaction()
        sent = [
            await self.producer.send(
                self.job.output, record.value + f"|{token}".encode(), partition=place.partition
            )
            for place, records in several.items()
            for record in records
        ]
        if self.job.gives_up():
            await asyncio.gather(*sent)
            say(f"flushed {token} {len(sent)}")
            await self.producer.abort_transaction()
            # What was read in this attempt is read again. Its committed() takes an answer that the
            # coordinator cannot give yet for no offsets.
            for place, records in several.items():
                self.consumer.seek(place, records[0].offset)
            return
        offsets = {place: records[-1].offset + 1 for place, records in several.items()}
        await self.producer.send_offsets_to_transaction(offsets, self.job.group)
        await self.producer.commit_transaction()
        say(f"committed {len(sent)}")


def main() -> None:
    """Never returns. SIGUSR1 has it print where it is."""
    faulthandler.register(signal.SIGUSR1)
    job = Job(sys.argv[1:])
    (AioKafka if job.client == "aiokafka" else Confluent)(job).run()


if __name__ == "__main__":
    main()
