"""The five APIs of the share coordinator, which brokers use among themselves (KIP-932).

Cases that write are alone: 4.4.0 answers -1 (a null pointer) to some of several writes at once.
"""

from typing import Any

from compat.corpus.sharing import id_of
from compat.script import Run, Topic, case, fitted
from compat.stored import SHARE_STATE, watch, written

INITIALIZE, READ = "InitializeShareGroupState", "ReadShareGroupState"
WRITE, DELETE = "WriteShareGroupState", "DeleteShareGroupState"
SUMMARY = "ReadShareGroupStateSummary"
TOPICS = {"t": Topic(partitions=2)}
AVAILABLE, ACKNOWLEDGED, ARCHIVED = 0, 2, 4


def _ask(
    run: Run, api: str, step: str, group: str | None = None, alias: str = "t", **partition: Any
) -> Any:
    """Asks about one partition; what is not given is 0."""
    run.coordinator(2)
    version = run.version if run.case.api == api else 0
    topic = {"topic_id": id_of(run, alias), "partitions": [{"partition": 0, **partition}]}
    fields = {"group_id": run.group() if group is None else group, "topics": [topic]}
    if step == "begin":  # a KRaft broker knows of a new topic a moment after it has answered
        return run.ask_until(
            lambda a: not a.results[0].partitions[0].error_code,
            api, version, step=step, **fitted(api, version, fields),
        )  # fmt: skip
    return run.ask(api, version, step=step, **fitted(api, version, fields))


def _batch(first: int, last: int, state: int = ACKNOWLEDGED, count: int = 1) -> dict[str, int]:
    return {"first_offset": first, "last_offset": last, "delivery_state": state,
            "delivery_count": count}  # fmt: skip


def _read_all(run: Run, step: str, leader: int = 0) -> None:
    _ask(run, READ, f"read {step}", leader_epoch=leader)
    _ask(run, SUMMARY, f"summary {step}", leader_epoch=leader)


@case(WRITE, topics=TOPICS, alone=True)
def written_and_read(run: Run) -> None:
    watch(run, SHARE_STATE)
    _ask(run, INITIALIZE, "begin", state_epoch=1, start_offset=0)
    _read_all(run, "at the beginning")
    _ask(run, WRITE, "one batch", state_epoch=1, start_offset=0, state_batches=[_batch(0, 9)],
         delivery_complete_count=10)  # fmt: skip
    _read_all(run, "one batch")
    _ask(run, WRITE, "more", state_epoch=1, start_offset=-1, delivery_complete_count=12,
         state_batches=[_batch(10, 11, ARCHIVED, 5), _batch(12, 14, AVAILABLE, 2)])  # fmt: skip
    _read_all(run, "three")
    _ask(run, WRITE, "over it", state_epoch=1, start_offset=5, delivery_complete_count=8,
         state_batches=[_batch(13, 13, ACKNOWLEDGED, 2)])  # fmt: skip
    _read_all(run, "five")
    _ask(run, WRITE, "nothing", state_epoch=1, start_offset=-1)
    _ask(run, DELETE, "delete")
    _read_all(run, "after the end")
    written(run, SHARE_STATE, run.group())


@case(WRITE, topics=TOPICS, alone=True)
def fenced(run: Run) -> None:
    "Older state epochs and older leaders write nothing."
    _ask(run, WRITE, "before it begins", state_epoch=1, state_batches=[_batch(0, 0)])
    _ask(run, INITIALIZE, "begin", state_epoch=3, start_offset=0)
    _ask(run, READ, "a leader", leader_epoch=5)
    for state, leader in ((2, 5), (4, 5), (3, 4), (3, 6), (3, 5), (-1, 5), (3, -1)):
        _ask(run, WRITE, f"state {state}, leader {leader}", state_epoch=state, leader_epoch=leader,
             start_offset=0, state_batches=[_batch(0, 0)])  # fmt: skip
    for leader in (4, 6, -1):
        _ask(run, READ, f"leader {leader}", leader_epoch=leader)
        _ask(run, SUMMARY, f"summary for leader {leader}", leader_epoch=leader)


@case(WRITE, topics=TOPICS, alone=True)
def refused(run: Run) -> None:
    batches = [_batch(0, 0)]
    _ask(run, WRITE, "empty group id", group="", state_batches=batches)
    _ask(run, WRITE, "unknown topic", alias="no-such", state_batches=batches)
    _ask(run, WRITE, "negative partition", partition=-1, state_batches=batches)
    _ask(run, WRITE, "partition that is not there", partition=9, state_batches=batches)
    _ask(run, INITIALIZE, "begin", state_epoch=1, start_offset=0)
    _ask(run, WRITE, "backwards", state_epoch=1, state_batches=[_batch(5, 2)])
    _ask(run, WRITE, "unknown state", state_epoch=1, state_batches=[_batch(5, 6, 9)])
    _ask(run, WRITE, "overlapping", state_epoch=1, state_batches=[_batch(5, 8), _batch(6, 9)])
    _ask(run, WRITE, "below the start", state_epoch=1, start_offset=7,
         state_batches=[_batch(2, 3)])  # fmt: skip
    _read_all(run, "what is there")


@case(INITIALIZE, topics=TOPICS, alone=True)
def initialized(run: Run) -> None:
    watch(run, SHARE_STATE)
    _ask(run, INITIALIZE, "first", state_epoch=1, start_offset=-1)
    _ask(run, INITIALIZE, "once more", state_epoch=1, start_offset=-1)
    _ask(run, INITIALIZE, "another offset", state_epoch=1, start_offset=7)
    _ask(run, INITIALIZE, "next state", state_epoch=2, start_offset=7)
    _read_all(run, "next state")
    _ask(run, INITIALIZE, "older state", state_epoch=1, start_offset=7)
    _ask(run, INITIALIZE, "no state", state_epoch=-1, start_offset=7)
    _ask(run, INITIALIZE, "empty group id", group="", state_epoch=1)
    _ask(run, INITIALIZE, "unknown topic", alias="no-such", state_epoch=1)
    _ask(run, INITIALIZE, "partition that is not there", partition=9, state_epoch=1)
    _ask(run, INITIALIZE, "negative offset", partition=1, state_epoch=1, start_offset=-7)
    written(run, SHARE_STATE, run.group())


def _read_without_state(run: Run, api: str) -> None:
    run.coordinator(2)
    _ask(run, api, "nothing there")
    _ask(run, api, "empty group id", group="")
    _ask(run, api, "unknown topic", alias="no-such")
    _ask(run, api, "negative partition", partition=-1)
    _ask(run, api, "partition that is not there", partition=9)
    run.call(group_id=run.group(), topics=[], step="no topics", patience=1.0)
    topic = {"topic_id": run.topic_id("t"), "partitions": []}
    run.call(group_id=run.group(), topics=[topic], step="no partitions", patience=1.0)
    _ask(run, INITIALIZE, "begin", state_epoch=1, start_offset=3)
    _ask(run, api, "there")
    both = {"topic_id": run.topic_id("t"), "partitions": [{"partition": 0}, {"partition": 1}]}
    run.call(group_id=run.group(), topics=[both], step="two")


@case(READ, topics=TOPICS)
def read(run: Run) -> None:
    _read_without_state(run, READ)


@case(SUMMARY, topics=TOPICS)
def summed_up(run: Run) -> None:
    _read_without_state(run, SUMMARY)


@case(DELETE, topics=TOPICS)
def deleted(run: Run) -> None:
    _read_without_state(run, DELETE)
    _read_all(run, "after the end")


def _malformed(run: Run) -> None:
    run.send_body(run.case.api, run.version, b"", step="no body", link="1")
    run.send_body(run.case.api, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(run.case.api, run.version, b"\xff" * 20, step="twenty bytes", link="3")


@case(INITIALIZE)
def malformed_initialization(run: Run) -> None:
    _malformed(run)


@case(READ)
def malformed_read(run: Run) -> None:
    _malformed(run)


@case(WRITE)
def malformed_write(run: Run) -> None:
    _malformed(run)


@case(DELETE)
def malformed_deletion(run: Run) -> None:
    _malformed(run)


@case(SUMMARY)
def malformed_summary(run: Run) -> None:
    _malformed(run)
