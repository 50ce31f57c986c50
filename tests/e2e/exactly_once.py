"""Exactly once under kills: `python -m tests.e2e.exactly_once --worker-kills 30 --broker-kills 10`,
with `--cluster` on three brokers (`once_cluster.py`).

Workers (`exactly_once_worker.py`) read an input topic, write each record once more to an output
topic and commit their offsets in the same transaction. Workers and the broker get SIGKILL at random
moments and are started anew; some workers are only stopped (SIGSTOP), replaced, and woken again:
these zombies must be fenced. In the end the committed records of the output must be the input, each
once and in order; no record of an attempt that was given up may be among them, and all of these
must be in the log for those who read uncommitted records.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.exactly_once_worker import FENCED, GAVE_UP
from tests.e2e.scale import Load
from tests.e2e.settings import QUICK, arguments
from tests.kit.server import REPOSITORY, Server
from tests.kit.wire import Wire

PARTITIONS = 4
DEADLINE = 90.0
STUCK_SECONDS = 40.0
CLUSTERS = ("process", "zookeeper")
"""Three brokers in this process over one embedded store, or three processes on a ZooKeeper."""
KEEP_THEIR_PLACE = ("confluent", "confluent-consumer")
"""Clients whose workers find their place when a group's coordinator has moved. aiokafka 0.14 does
not look at the error of a whole OffsetFetch answer (NOT_COORDINATOR, version 2 and later): to it
the group has committed nothing then, and its worker begins anew."""
WORKERS = {"confluent": 2, "confluent-consumer": 2, "aiokafka": 1}
"""Workers that share a group, by client."""


class Broken(AssertionError):
    """A record is missing, doubled, out of order, or was seen though it was aborted."""


Values = dict[int, list[tuple[int, str]]]
"""Partition -> number and token of each record, in order."""


class Stuck(Broken):
    """A worker does not get on."""


class Broker(Protocol):
    """What is killed: `tests.kit.server.Server`, or a reference."""

    @property
    def bootstrap(self) -> str: ...

    def start(self, timeout: float = 30.0) -> float: ...

    def kill(self) -> None: ...


class Worker:
    """One worker process and what it said."""

    def __init__(self, pipeline: "Pipeline", number: int, seed: int) -> None:
        self.pipeline = pipeline
        self.number = number
        self.name = f"{pipeline.name}-{number}"
        self.changed = threading.Condition()
        self.lines: list[str] = []
        command = [sys.executable, "-m", "tests.e2e.exactly_once_worker", pipeline.client]
        command += [pipeline.bootstrap, pipeline.input, pipeline.output, pipeline.group]
        self.process = subprocess.Popen(
            [*command, self.name, str(seed)],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []
        self.readers = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._listen_errors, daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            for line in pipe:
                if line.startswith("flushed"):
                    self.pipeline.flushed.append(line)
                with self.changed:
                    self.lines.append(line)
                    self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def _listen_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as pipe:
            self.errors += pipe

    @property
    def commits(self) -> int:
        """Transactions it committed so far."""
        return sum(line.startswith("committed") for line in self.lines)

    def wait_commits(self, count: int) -> bool:
        """Wait until it has committed so often; False when it has ended before. Raises `Stuck`."""
        end = time.monotonic() + STUCK_SECONDS
        with self.changed:
            while self.commits < count and self.process.poll() is None:
                left = end - time.monotonic()
                if left <= 0:
                    raise Stuck(f"{self.name} does not get on: {self.lines[-3:]}{self._where()}")
                self.changed.wait(min(left, 0.2))
        return self.commits >= count

    def _where(self) -> str:
        """Where its threads are, as it tells when asked."""
        self.signal(signal.SIGUSR1)
        self.readers[1].join(1.0)
        return "\n" + "".join(self.errors[-30:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to a worker that may have ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> int:
        """SIGKILL (if it still runs); the exit status."""
        self.signal(signal.SIGKILL)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; the exit status."""
        status = self.process.wait(DEADLINE)
        for reader in self.readers:
            reader.join(10)
        return status

    def check_end(self) -> str:
        """Why it ended by itself; raises when no worker should end like that."""
        status = self.ended()
        if status not in (FENCED, GAVE_UP, -signal.SIGKILL):
            raise Broken(f"{self.name} ended with {status}: {''.join(self.errors)[-2000:]}")
        return self.lines[-1].strip() if self.lines else ""


@dataclass
class Pipeline:
    """The workers of one client, from the common input to an output of their own."""

    client: str
    bootstrap: str
    input: str
    name: str
    workers: list[Worker] = field(default_factory=list)
    flushed: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        return f"{self.name}-output"

    @property
    def group(self) -> str:
        return f"{self.name}-group"


@dataclass
class Report:
    """What a run came to."""

    records: int = 0
    worker_kills: int = 0
    broker_kills: int = 0
    zombies: int = 0
    restarts: list[str] = field(default_factory=list)
    """Workers that ended by themselves, and why."""
    aborted: int = 0
    """Records of attempts that were given up."""


class Run:
    """One run against one broker; raises `Broken`."""

    def __init__(
        self,
        broker: Broker,
        clients: list[str],
        seed: int,
        tell: Callable[[str], None],
        patient: bool = False,
        replicas: int = 1,
    ) -> None:
        """`patient`: workers that hang are killed and started anew. librdkafka 2.16 may wait for
        ever for a broker that was missing from a Metadata answer: while it started, as Apache Kafka
        4 answers, or while it was dead and others answered. A broker that is alone and always names
        itself must not need this."""
        self.broker = broker
        self.patient = patient
        self.chance = random.Random(seed)
        self.tell = tell
        self.report = Report()
        stamp = time.time_ns() // 1000
        self.input = f"exactly-once-{stamp}-input"
        admin = Confluent(broker.bootstrap)
        admin.create_topic(self.input, PARTITIONS, replicas=replicas)
        self.pipelines = [
            Pipeline(client, broker.bootstrap, self.input, f"{client}-{stamp}")
            for client in clients
        ]
        for pipeline in self.pipelines:
            admin.create_topic(pipeline.output, PARTITIONS, replicas=replicas)
        self.load = Load(broker.bootstrap, self.input, PARTITIONS, pause=0.02)
        self.readers = [
            Reader(broker.bootstrap, pipeline.output, committed=True) for pipeline in self.pipelines
        ]

    def go(self, worker_kills: int, broker_kills: int, zombies: int) -> Report:
        """The whole test."""
        events = ["worker"] * worker_kills + ["broker"] * broker_kills + ["zombie"] * zombies
        self.chance.shuffle(events)
        self.load.start()
        for reader in self.readers:
            reader.start()
        try:
            for pipeline in self.pipelines:
                for number in range(WORKERS[pipeline.client]):
                    pipeline.workers.append(self._worker(pipeline, number))
            for event in events:
                self._revive()
                getattr(self, f"_{event}_dies")()
            written = self.load.end()
            self._finish(written)
        finally:
            self.load.ending.set()
            for reader in self.readers:
                reader.ending.set()
            for pipeline in self.pipelines:
                for worker in pipeline.workers:
                    worker.end()
        self._verify(written)
        return self.report

    def _worker(self, pipeline: Pipeline, number: int) -> Worker:
        return Worker(pipeline, number, self.chance.randrange(1 << 32))

    def _revive(self) -> None:
        """Start those anew that ended by themselves."""
        for pipeline in self.pipelines:
            for at, worker in enumerate(pipeline.workers):
                if worker.process.poll() is not None:
                    self.report.restarts.append(worker.check_end())
                    self.tell(f"{worker.name} starts anew: {self.report.restarts[-1]}")
                    pipeline.workers[at] = self._worker(pipeline, worker.number)

    def _victim(self) -> tuple[Pipeline, int, Worker]:
        pipeline = self.chance.choice(self.pipelines)
        at = self.chance.randrange(len(pipeline.workers))
        return pipeline, at, pipeline.workers[at]

    def _let_work(self, worker: Worker) -> None:
        """Some get to work before they are killed, some are killed while they start."""
        if self.chance.random() < 0.75:
            self._commits(worker)
        time.sleep(self.chance.uniform(0, 0.4))

    def _commits(self, worker: Worker) -> bool:
        """Wait for one more commit of a worker; False when it ended or hangs."""
        try:
            return worker.wait_commits(worker.commits + 1)
        except Stuck as stuck:
            if not self.patient:
                raise
            self.tell(str(stuck))
            worker.end()
            return False

    def _worker_dies(self) -> None:
        pipeline, at, worker = self._victim()
        self._let_work(worker)
        if worker.end() != -signal.SIGKILL:
            self.report.restarts.append(worker.check_end())
        self.report.worker_kills += 1
        self.tell(f"kill {self.report.worker_kills}: {worker.name} after {worker.commits} commits")
        pipeline.workers[at] = self._worker(pipeline, worker.number)

    def _broker_dies(self) -> None:
        self._let_work(self._victim()[2])
        self.broker.kill()
        time.sleep(self.chance.uniform(0, 0.3))
        took = self.broker.start()
        self.report.broker_kills += 1
        self.tell(f"broker kill {self.report.broker_kills}: ready again in {took:.2f} s")

    def _zombie_dies(self) -> None:
        """A worker that seems dead is replaced, comes to, and must notice."""
        pipeline, at, zombie = self._victim()
        if not self._commits(zombie):
            return
        time.sleep(self.chance.uniform(0, 0.1))
        zombie.signal(signal.SIGSTOP)
        heir = pipeline.workers[at] = self._worker(pipeline, zombie.number)
        try:
            self._commits(heir)
        finally:
            zombie.signal(signal.SIGCONT)
        status = zombie.ended()
        reason = zombie.lines[-1].strip()
        # the commit it was about could be decided while it slept: its client then gives up
        if status not in (FENCED, GAVE_UP):
            raise Broken(f"the zombie {zombie.name} ended with {status}: {zombie.errors[-5:]}")
        self.report.zombies += 1
        self.tell(f"zombie {zombie.name}: {reason}")

    def _finish(self, written: int) -> None:
        """Wait until every pipeline has mapped everything."""
        end = time.monotonic() + DEADLINE
        expected = dict.fromkeys(range(PARTITIONS), written)
        for pipeline in self.pipelines:
            places = {(self.input, partition): written for partition in expected}
            client = Confluent(self.broker.bootstrap)
            while client.group_offsets(pipeline.group) != places:
                self._revive()
                if self.patient and time.monotonic() > end - DEADLINE / 2:
                    pipeline.workers[0].end()
                    pipeline.workers[-1].end()
                    self.patient = False
                if time.monotonic() > end:
                    found = client.group_offsets(pipeline.group)
                    raise Broken(f"{pipeline.name} does not end: {found}, {written} each are due")
                time.sleep(0.05)
        for pipeline in self.pipelines:
            while hanging := undecided(self.broker.bootstrap, pipeline.output):
                self._revive()
                if time.monotonic() > end:
                    raise Broken(f"{pipeline.name}: transactions stay open: {hanging}")
                time.sleep(0.05)

    def _read(self, topic: str, committed: bool) -> Values:
        reader = Reader(self.broker.bootstrap, topic, committed=committed)
        reader.start()
        return reader.finish()

    def _verify(self, written: int) -> None:
        for pipeline, reader in zip(self.pipelines, self.readers, strict=True):
            committed, everything = (self._read(pipeline.output, word) for word in (True, False))
            check(pipeline.name, written, committed, everything, pipeline.flushed)
            if reader.finish() != committed:
                raise Broken(f"{pipeline.name}: who always read saw other committed records")
            self.report.aborted += sum(int(line.split()[2]) for line in pipeline.flushed)
        self.report.records = written * PARTITIONS * len(self.pipelines)


def check(
    name: str, written: int, committed: Values, everything: Values, flushed: list[str]
) -> None:
    """Hold what is in an output against what must be there. Raises `Broken`."""
    for partition in range(PARTITIONS):
        numbers = [number for number, _ in committed.get(partition, ())]
        if numbers != list(range(written)):
            twice = [number for number, count in Counter(numbers).items() if count > 1]
            lost = sorted(set(range(written)) - set(numbers))
            # One token: written twice in one attempt. Two: two attempts read the same.
            tokens = [token for number, token in committed[partition] if number in twice[:5]]
            raise Broken(
                f"{name} {partition}: {len(numbers)} records where {written} are due; "
                f"twice {twice[:5]} in {tokens}, missing {lost[:5]}"
            )
    seen = Counter(token for records in committed.values() for _, token in records)
    there = Counter(token for records in everything.values() for _, token in records)
    for line in flushed:
        _, token, count = line.split()
        if seen[token]:
            raise Broken(f"{name}: {seen[token]} records of {token} are seen, which was aborted")
        if there[token] != int(count):
            raise Broken(f"{name}: {there[token]} records of {token}, {count} were written")
    if not all(there[token] == count for token, count in seen.items()):
        raise Broken(f"{name}: committed records that are not there for everybody")


def undecided(bootstrap: str, topic: str) -> list[str]:
    """The producers that have a transaction open on a topic, and the partitions that nobody
    leads."""
    request = DescribeProducersRequest(
        topics=[TopicRequest(name=topic, partition_indexes=list(range(PARTITIONS)))]
    )
    found: dict[int, list[str]] = {}
    for address in bootstrap.split(","):
        with Wire(address) as wire:
            partitions = wire.call(request, 0).topics[0].partitions
        for partition in partitions:
            if partition.error_code == 0:
                found[partition.partition_index] = [
                    f"partition {partition.partition_index}: {producer}"
                    for producer in partition.active_producers
                    if producer.current_txn_start_offset >= 0
                ]
    led_by_nobody = [f"partition {p}: no leader" for p in range(PARTITIONS) if p not in found]
    return [*(line for lines in found.values() for line in lines), *led_by_nobody]


class Reader(threading.Thread):
    """Reads an output, from the beginning to the ends that it has when `finish` is called.

    Started before the first kill it sees what a consumer sees that is always there.
    """

    def __init__(self, bootstrap: str, topic: str, *, committed: bool) -> None:
        super().__init__(daemon=True)
        self.topic = topic
        self.found: Values = {partition: [] for partition in range(PARTITIONS)}
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self.client = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "unused",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )
        self.client.assign([TopicPartition(topic, partition, 0) for partition in self.found])

    def run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 - raised again by finish()
            self.failure = error
        finally:
            self.client.close()

    def _read(self) -> None:
        at_end: set[int] = set()
        told = False
        while not (told and len(at_end) == PARTITIONS):
            if self.ending.is_set() and not told:
                told = True
                # an end that was met before may not be the end any more: meet each once more
                at_end.clear()
                self.client.assign(
                    [TopicPartition(self.topic, p, self._next(p)) for p in self.found]
                )
            for message in self.client.consume(1000, 0.2):
                self._take(message, at_end)

    def _next(self, partition: int) -> int:
        (place,) = self.client.position([TopicPartition(self.topic, partition)])
        return max(place.offset, 0)

    def _take(self, message: Message, at_end: set[int]) -> None:
        partition, error = message.partition(), message.error()
        if error is None:
            value = message.value()
            assert partition is not None and isinstance(value, bytes)
            number, _, token = value.decode().partition("|")
            self.found[partition].append((int(number), token))
        elif error.code() == KafkaError._PARTITION_EOF:
            assert partition is not None
            at_end.add(partition)
        elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
            raise KafkaException(error)

    def finish(self) -> Values:
        """Read up to the ends; what was read in all."""
        self.ending.set()
        self.join(DEADLINE)
        if self.failure is not None:
            raise self.failure
        if self.is_alive():
            raise Broken(f"{self.topic} cannot be read to its end")
        return self.found


def run(
    broker: Broker,
    *,
    worker_kills: int,
    broker_kills: int,
    zombies: int,
    seed: int,
    clients: list[str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
    patient: bool = False,
    replicas: int = 1,
) -> Report:
    """Against a started broker. Raises `Broken`."""
    once = Run(broker, clients or list(WORKERS), seed, tell, patient, replicas)
    return once.go(worker_kills, broker_kills, zombies)


def main() -> int:
    """Exit status 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.exactly_once", description=__doc__)
    parser.add_argument("--worker-kills", type=int, default=30)
    parser.add_argument("--broker-kills", type=int, default=10)
    parser.add_argument("--zombies", type=int, default=5)
    parser.add_argument("--client", action="append", choices=WORKERS, help="default: all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--reference", metavar="VERSION", help="against a real Apache Kafka")
    parser.add_argument("--cluster", choices=CLUSTERS, help="three brokers; default: one")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="odradek-once-")))
        broker = _broker(stack, folder, options)
        try:
            report = run(
                broker,
                worker_kills=options.worker_kills,
                broker_kills=options.broker_kills,
                zombies=options.zombies,
                seed=options.seed,
                clients=options.client or (list(KEEP_THEIR_PLACE) if options.cluster else None),
                tell=lambda line: print(line, flush=True),
                patient=bool(options.reference or options.cluster),
                replicas=3 if options.cluster else 1,
            )
        except Broken as error:
            print(f"BROKEN: {error}")
            return 1
    print(
        f"{report.worker_kills} workers and {report.broker_kills} brokers killed, "
        f"{report.zombies} zombies, {len(report.restarts)} workers that gave up: all of "
        f"{report.records} records once and in order, none of {report.aborted} aborted ones seen"
    )
    return 0


def _broker(stack: ExitStack, folder: Path, options: argparse.Namespace) -> Broker:
    if options.cluster is not None:
        from tests.e2e import once_cluster

        return once_cluster.start(stack, options.cluster, folder, options.seed)
    if options.reference is None:
        return stack.enter_context(Server(folder / "data", arguments=arguments()))
    from compat.killable import Killable

    return stack.enter_context(Killable(options.reference, folder, QUICK))


if __name__ == "__main__":
    sys.exit(main())
