"""What cases about transactions share: a transactional producer, its requests, its batches."""

from typing import Any

from compat.batches import Batch, Rec
from compat.offered import NEW, judge_of
from compat.script import Run, fitted

CONCURRENT = 51
TRANSACTIONAL = 0x10
_NEWEST_OF_OLD = {
    "InitProducerId": 5, "AddPartitionsToTxn": 3, "AddOffsetsToTxn": 4, "EndTxn": 4,
    "TxnOffsetCommit": 4, "Produce": 11, "DescribeTransactions": 0, "ListTransactions": 1,
}  # fmt: skip
_NEWEST = {**_NEWEST_OF_OLD, "EndTxn": 5, "TxnOffsetCommit": 5, "Produce": 12,
           "ListTransactions": 2}  # fmt: skip


def version_of(run: Run, api: str) -> int:
    """The version at which a case asks an API that helps it: its own API at its own, others at the
    newest that clients of transactions 1 use, or of transactions 2 where the case is about those.
    """
    if api == run.case.api:
        return run.version
    return (_NEWEST if newest(run) else _NEWEST_OF_OLD)[api]


def newest(run: Run) -> bool:
    """Whether a case at this version is about transactions 2 (KIP-890)."""
    own = run.case.api in ("EndTxn", "TxnOffsetCommit", "Produce")
    return own and judge_of(run.case.api, run.version) == NEW


class Producer:
    """A transactional producer of one case. Ids and epoch are what the broker said last."""

    def __init__(self, run: Run, alias: str = "tx", link: str = "main") -> None:
        self.run = run
        self.name = run.transactional_id(alias)
        self.link = link
        self.id = -1
        self.epoch = -1
        self.sequences: dict[tuple[str, int], int] = {}
        run.coordinator(1)

    def _ask(self, api: str, step: str | None, fields: dict[str, Any]) -> Any:
        version = version_of(self.run, api)
        body = fitted(api, version, fields)
        return self.run.ask(api, version, link=self.link, step=step, **body)

    def _own(self) -> dict[str, Any]:
        return {
            "transactional_id": self.name,
            "producer_id": self.id,
            "producer_epoch": self.epoch,
        }

    def init(self, *, timeout: int = 60_000, step: str | None = None, **more: Any) -> Any:
        """InitProducerId; remembers id and epoch. A transaction that ends is waited for."""
        fields = {"transactional_id": self.name, "transaction_timeout_ms": timeout, **more}
        version = version_of(self.run, "InitProducerId")
        answer = self.run.ask_until(
            lambda a: a.error_code != CONCURRENT, "InitProducerId", version,
            link=self.link, step=step, **fitted("InitProducerId", version, fields),
        )  # fmt: skip
        if answer is not None and answer.error_code == 0:
            self.id, self.epoch = answer.producer_id, answer.producer_epoch
            self.sequences.clear()
        return answer

    def add(
        self, *partitions: tuple[str, int], step: str | None = None, wait: bool = True, **more: Any
    ) -> Any:
        """AddPartitionsToTxn for partitions by topic alias; markers under way are waited for."""
        topics: dict[str, list[int]] = {}
        for alias, index in partitions:
            topics.setdefault(named(self.run, alias), []).append(index)
        body = [{"name": name, "partitions": indexes} for name, indexes in topics.items()]
        own = {**self._own(), **more}
        fields = {f"v3_and_below_{key}": value for key, value in own.items()}
        fields["v3_and_below_topics"] = body
        fields["transactions"] = [{**own, "topics": body}]
        version = version_of(self.run, "AddPartitionsToTxn")
        return self.run.ask_until(
            lambda a: not wait or CONCURRENT not in codes_of(a), "AddPartitionsToTxn", version,
            link=self.link, step=step, **fitted("AddPartitionsToTxn", version, fields),
        )  # fmt: skip

    def add_offsets(self, group: str, *, step: str | None = None, **more: Any) -> Any:
        """AddOffsetsToTxn; markers under way are waited for."""
        fields = {**self._own(), "group_id": group, **more}
        version = version_of(self.run, "AddOffsetsToTxn")
        return self.run.ask_until(
            lambda a: a.error_code != CONCURRENT, "AddOffsetsToTxn", version,
            link=self.link, step=step, **fitted("AddOffsetsToTxn", version, fields),
        )  # fmt: skip

    def commit_offsets(
        self, group: str, topic: str, *offsets: int, step: str | None = None, **more: Any
    ) -> Any:
        """TxnOffsetCommit to partitions 0, 1, ... of a topic by alias."""
        partitions = [
            {"partition_index": p, "committed_offset": o, "committed_metadata": "tx"}
            for p, o in enumerate(offsets)
        ]
        try:
            known = {"name": self.run.name(topic), "topic_id": self.run.topic_id(topic)}
        except KeyError:
            known = {"name": topic, "topic_id": self.run.other_id()}
        topics = [{**known, "partitions": partitions}]
        fields = {**self._own(), "group_id": group, "topics": topics, **more}
        return self._ask("TxnOffsetCommit", step, fields)

    def produce(
        self, alias: str, *values: bytes, partition: int = 0, step: str | None = None,
        version: int | None = None, acks: int = -1, **fields: Any,
    ) -> Any:  # fmt: skip
        """A transactional batch with the next sequence number."""
        where = (alias, partition)
        sequence = self.sequences.get(where, 0)
        self.sequences[where] = sequence + len(values)
        made = {
            "attributes": TRANSACTIONAL, "producer_id": self.id, "producer_epoch": self.epoch,
            "base_sequence": sequence, **fields,
        }  # fmt: skip
        data = Batch([Rec(value) for value in values], **made).encode()
        version = version_of(self.run, "Produce") if version is None else version
        topic = {"name": self.run.name(alias), "topic_id": self.run.topic_id(alias)}
        body = fitted("Produce", version, {
            "transactional_id": self.name, "acks": acks, "timeout_ms": 5000,
            "topic_data": [{**topic, "partition_data": [{"index": partition, "records": data}]}],
        })  # fmt: skip
        return self.run.ask("Produce", version, link=self.link, step=step, **body)

    def end(self, *, committed: bool, step: str | None = None, **more: Any) -> Any:
        """EndTxn; an epoch that comes back is taken over."""
        answer = self._ask("EndTxn", step, {**self._own(), "committed": committed, **more})
        if answer is not None and answer.error_code == 0 and version_of(self.run, "EndTxn") >= 5:
            self.id, self.epoch = answer.producer_id, answer.producer_epoch
            self.sequences.clear()
        return answer

    def describe(self, step: str | None = None) -> Any:
        return self._ask("DescribeTransactions", step, {"transactional_ids": [self.name]})

    def describe_until(self, *states: str) -> Any:
        """Describes until the transaction is in one of these states."""
        return self.run.ask_until(
            lambda a: a.transaction_states[0].transaction_state in states,
            "DescribeTransactions", 0, transactional_ids=[self.name],
        )  # fmt: skip


def named(run: Run, alias: str) -> str:
    """The name of a topic by alias, or the alias as a name that nobody has."""
    try:
        return run.name(alias)
    except KeyError:
        return alias


def codes_of(answer: Any) -> set[int]:
    """All results of an AddPartitionsToTxn answer."""
    topics = [*answer.results_by_topic_v3_and_below]
    for transaction in answer.results_by_transaction:
        topics += transaction.topic_results
    return {p.partition_error_code for t in topics for p in t.results_by_partition}
