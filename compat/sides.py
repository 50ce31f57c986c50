"""The brokers that are compared: references, Odradek as a process of its own, or an address."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from broker.cluster.layout import encode_uuid
from compat.reference import (
    NODE_ID,
    SMALL,
    SMALL_SHARE_STATES,
    Reference,
    answers_api_versions,
)
from compat.script import Case, Run, Topic, api_named
from compat.wire_client import Link

START_SECONDS = 30.0
GROUP_COORDINATOR, TRANSACTION_COORDINATOR, SHARE_COORDINATOR = range(3)
CHUNK = 200

SETTINGS = {
    "log.retention.ms": "-1",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.index.size.max.bytes": "1048576",
    "fetch.max.bytes": "1048576",
    "message.max.bytes": "1000000",
    "max.incremental.fetch.session.cache.slots": "2000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "group.min.session.timeout.ms": "100",
    "group.max.size": "5",
    "group.consumer.min.session.timeout.ms": "100",
    "group.consumer.min.heartbeat.interval.ms": "50",
    "group.consumer.max.size": "5",
    "group.share.min.session.timeout.ms": "100",
    "group.share.min.heartbeat.interval.ms": "50",
    "group.share.max.size": "10",
    "group.share.min.record.lock.duration.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "100",
}
"""Broker settings that every side starts with, for equal answers, small logs, a quick start, and
groups and transactions that a case can let expire."""

NEWER_SETTINGS = {
    "group.consumer.assignment.interval.ms": "0",
    "group.share.assignment.interval.ms": "0",
}
"""The same, which 3.9 does not know."""


def settings_for(version: str) -> dict[str, str]:
    """What the reference of a version starts with."""
    return SETTINGS if version.startswith("3") else {**SETTINGS, **NEWER_SETTINGS}


class NotReady(Exception):
    """A side cannot be set up; the text is one sentence."""


class Side:
    """One broker under comparison, and the topics that were made there."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.topic_ids: dict[str, bytes] = {}
        self.served: dict[int, tuple[int, int]] = {}
        self._coordinators: set[int] = set()
        self._coordinating = threading.Lock()
        self._scratch = Case("Metadata", "setup", lambda run: None, (0, 0), {}, False)

    def setup_run(self) -> Run:
        """A run whose steps nobody compares."""
        return Run(self, self._scratch, 0, {})

    @staticmethod
    def topic_name(case: Case, version: int, alias: str) -> str:
        again = f"-again{case.attempt}" if case.attempt else ""
        return f"{case.api.lower()}-{case.name}{again}-v{version}-{alias}"

    def learn_versions(self) -> None:
        run = self.setup_run()
        answer = run.ask("ApiVersions", 0)
        run.close()
        if answer is None:
            raise NotReady(f"{self.name} does not answer ApiVersions.")
        self.served = {k.api_key: (k.min_version, k.max_version) for k in answer.api_keys}

    def serves(self, api: str, version: int) -> bool:
        low, high = self.served.get(api_named(api).key, (0, -1))
        return low <= version <= high

    def warm_up(self) -> None:
        """Asks for a producer id until there is one; a reference fetches its first block late."""
        run = self.setup_run()
        run.ask_until(lambda a: a.error_code == 0, "InitProducerId", 1, transactional_id=None)
        run.close()

    def without_features(self) -> None:
        """Takes back every level that is finalized."""
        run = self.setup_run()
        software = {"client_software_name": "compat", "client_software_version": "1"}
        levels = run.ask("ApiVersions", 4, **software).finalized_features
        updates = [
            {"feature": level.name, "max_version_level": 0, "upgrade_type": 3} for level in levels
        ]
        answer = run.ask("UpdateFeatures", 1, timeout_ms=10_000, feature_updates=updates)
        run.close()
        if answer.error_code or any(each.error_code for each in answer.results):
            raise NotReady(f"{self.name} keeps its features: {answer}")

    def prepare(self, topics: Mapping[str, Topic]) -> None:
        """Creates topics by name and fills them."""
        wanted = list(topics.items())
        for start in range(0, len(wanted), CHUNK):
            self._create(dict(wanted[start : start + CHUNK]))
        run = self.setup_run()
        for name, topic in wanted:
            for data in topic.fill:
                self._fill(run, name, data)
        run.close()

    def _create(self, topics: Mapping[str, Topic]) -> None:
        run = self.setup_run()
        body = [
            {
                "name": name,
                "num_partitions": topic.partitions,
                "replication_factor": 1,
                "configs": [{"name": k, "value": v} for k, v in topic.configs.items()],
            }
            for name, topic in topics.items()
        ]
        answer = run.ask("CreateTopics", 7, topics=body, timeout_ms=60_000, patience=90)
        run.close()
        if answer is None:
            raise NotReady(f"{self.name} did not answer CreateTopics ({run.steps[-1].kind}).")
        for each in answer.topics:
            if each.error_code not in (0, 36):
                raise NotReady(
                    f"{self.name} refused topic {each.name}: {each.error_code} {each.error_message}"
                )
            self.topic_ids[each.name] = bytes(each.topic_id)
        self.settle(list(topics))

    def settle(self, names: Iterable[str]) -> None:
        """Waits until every partition of these topics has a leader that answers.

        A KRaft broker tells of a leader in its metadata a moment before that leader works.
        """
        waiting = set(names)
        run = self.setup_run()
        end = time.monotonic() + START_SECONDS
        while waiting:
            wanted = [{"name": name} for name in sorted(waiting)]
            told = run.ask("Metadata", 4, topics=wanted, allow_auto_topic_creation=False)
            if told is None or time.monotonic() > end:
                raise NotReady(f"{self.name} has no leaders for {min(waiting)} and others.")
            counts = {
                t.name: len(t.partitions)
                for t in told.topics
                if not t.error_code and all(p.leader_id >= 0 for p in t.partitions)
            }
            waiting -= self._answering(run, counts)
            if waiting:
                time.sleep(0.02)
        run.close()

    @staticmethod
    def _answering(run: Run, counts: Mapping[str, int]) -> set[str]:
        """Those of some topics whose partitions all answer ListOffsets."""
        topics = [
            {
                "name": name,
                "partitions": [{"partition_index": p, "timestamp": -1} for p in range(count)],
            }
            for name, count in counts.items()
        ]
        answer = run.ask("ListOffsets", 1, replica_id=-1, topics=topics)
        return {
            t.name
            for t in (answer.topics if answer is not None else ())
            if not any(p.error_code for p in t.partitions)
        }

    def gone(self, name: str) -> None:
        """Waits until a topic is unknown."""
        run = self.setup_run()
        run.ask_until(
            lambda a: a.topics[0].error_code == 3,
            "Metadata",
            4,
            topics=[{"name": name}],
            allow_auto_topic_creation=False,
        )
        run.close()

    def coordinator(self, kind: int) -> None:
        """Waits until the coordinators of that type are known and have loaded what they keep."""
        with self._coordinating:
            if kind in self._coordinators:
                return
            run = self.setup_run()
            if kind == SHARE_COORDINATOR:
                key = f"any:{encode_uuid(bytes(15) + bytes([1]))}:0"
                run.ask_until(lambda a: a.coordinators[0].error_code == 0, "FindCoordinator", 6,
                              key_type=kind, coordinator_keys=[key])  # fmt: skip
            else:
                run.ask_until(lambda a: a.error_code == 0, "FindCoordinator", 1,
                              key="any", key_type=kind)  # fmt: skip
            if kind == GROUP_COORDINATOR and self.serves("OffsetFetch", 7):
                run.ask_until(lambda a: a.error_code == 0, "OffsetFetch", 7,
                              group_id="any", topics=[])  # fmt: skip
            if kind == TRANSACTION_COORDINATOR and self.serves("DescribeTransactions", 0):
                run.ask_until(lambda a: a.transaction_states[0].error_code == 105,
                              "DescribeTransactions", 0, transactional_ids=["any"])  # fmt: skip
            run.close()
            self._coordinators.add(kind)

    def _fill(self, run: Run, name: str, data: bytes) -> None:
        body = [{"name": name, "partition_data": [{"index": 0, "records": data}]}]
        magic = data[16]
        version = 9 if magic == 2 else 2
        answer = run.ask("Produce", version, acks=-1, timeout_ms=10_000, topic_data=body)
        if answer is None or answer.responses[0].partition_responses[0].error_code:
            raise NotReady(f"{self.name} refused the records that {name} begins with: {answer}")

    def link(self) -> Link:
        return Link(self.host, self.port)


@contextlib.contextmanager
def reference_side(reference: Reference) -> Iterator[Side]:
    """A reference that was launched already; it is ended at the end."""
    try:
        reference.wait()
        host, port = reference.address.rsplit(":", 1)
        yield Side(reference.version, host, int(port))
    finally:
        reference.close()


def odradek_settings(judge: str) -> dict[str, str]:
    """What an Odradek starts with that the reference of a version judges."""
    newer = {} if judge.startswith("3") else SMALL_SHARE_STATES
    return {"broker.id": str(NODE_ID), **SMALL, **newer, **settings_for(judge)}


class OdradekProcess:
    """Odradek started from this working tree, with the settings and node id of the references."""

    def __init__(self, judge: str) -> None:
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="odradek-"))
        self.log = self.directory / "broker.log"
        self._settings = odradek_settings(judge)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def launch(self, port: int) -> None:
        self.port = port
        settings = [part for k, v in self._settings.items() for part in ("--set", f"{k}={v}")]
        command = [sys.executable, "-m", "broker", "start", "--port", str(port)]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*command, "--data-dir", str(self.directory / "data"), *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=pathlib.Path(__file__).parent.parent,
            )

    def wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        assert self._process is not None
        while not answers_api_versions(self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                raise NotReady(f"Odradek did not start: {self.log.read_text()[-800:]}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def close(self, keep_log: pathlib.Path | None = None) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if keep_log is not None and self.log.exists():
            shutil.copy(self.log, keep_log)
        shutil.rmtree(self.directory, ignore_errors=True)


def described(value: Any) -> str:
    """A value of a transcript on one line."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else text[:200] + "..."
