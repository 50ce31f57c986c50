"""Coordinators that are away, and what their successors know."""

from typing import Any

from compat.batches import TRANSACTIONAL, batch
from compat.cluster.corpus.wrong_broker import coordinator_of
from compat.cluster.script import INTERNAL, TURNS, ClusterRun, scenario, versions

GROUP, TRANSACTION = 0, 1
ALTER = "AlterPartitionReassignments"
LOST = 2
"""The broker that is alone with a partition of each internal topic."""


def _internal(run: ClusterRun, what: str, replicas: list[list[int]]) -> None:
    """Moves the internal topics; returns when every broker knows."""
    for name in INTERNAL:
        partitions = [
            {"partition_index": index, "replicas": wanted} for index, wanted in enumerate(replicas)
        ]
        run.ask_at(
            run.controller, ALTER, 0, f"{what}: {name}",
            topics=[{"name": name, "partitions": partitions}], timeout_ms=10_000,
        )  # fmt: skip
        run.known(
            what,
            name,
            lambda s: [list(s[index].replica_nodes) for index in sorted(s)] == replicas,
        )


@scenario(ALTER)
def no_coordinator(run: ClusterRun) -> None:
    "A partition of each internal topic is on one broker alone, and that one is down."
    few = [[0, 1], [1, 0], [LOST]]
    _internal(run, "few replicas", few)
    lost = {kind: _key_of(run, LOST, kind) for kind in (GROUP, TRANSACTION)}
    run.stop(LOST)
    for name in INTERNAL:
        run.led(name, 0, 1, -1)
    for version in versions("FindCoordinator"):
        for kind, key in lost.items() if version else [(GROUP, lost[GROUP])]:
            fields = {"coordinator_keys": [key, "b"]} if version >= 4 else {"key": key}
            run.everywhere("FindCoordinator", version, f"of kind {kind}", key_type=kind, **fields)
    for version in versions("OffsetFetch", 1):
        group: dict[str, Any] = {"group_id": lost[GROUP], "topics": []}
        run.everywhere("OffsetFetch", version, **group, groups=[group])
    for version in versions("InitProducerId"):
        run.everywhere(
            "InitProducerId", version, transactional_id=lost[TRANSACTION],
            transaction_timeout_ms=10_000,
        )  # fmt: skip
    run.start(LOST)
    _internal(run, "all replicas", [list(replicas) for replicas in TURNS])
    run.in_sync(*INTERNAL)


def _key_of(run: ClusterRun, broker_id: int, kind: int) -> str:
    """A key that a broker coordinates; the same on every side."""
    for number in range(100):
        key = f"{run.group()}-{number}"
        answer = run.look(0, "FindCoordinator", 3, key=key, key_type=kind)
        if answer.node_id == broker_id:
            return key
    raise AssertionError(f"broker {broker_id} coordinates nothing")


@scenario()
def coordinators_move(run: ClusterRun) -> None:
    "A group and a transaction, and the broker that knew them goes."
    run.create("t", [[0, 1, 2]])
    group, name = _key_of(run, 1, GROUP), _key_of(run, 1, TRANSACTION)
    for key, kind in ((group, GROUP), (name, TRANSACTION)):
        coordinator_of(run, key, kind)
    commits = [{"partition_index": 0, "committed_offset": 1, "committed_metadata": "m"}]
    commit = {"group_id": group, "topics": [{"name": run.name("t"), "partitions": commits}]}
    run.ask_at(1, "OffsetCommit", 8, **commit)
    run.until(
        "broker 1 has producer ids",
        lambda: not run.look(1, "InitProducerId", 4, transactional_id=None).error_code,
    )
    started = run.ask_at(
        1, "InitProducerId", 4, transactional_id=name, transaction_timeout_ms=60_000
    )
    producer = {"producer_id": started.producer_id, "producer_epoch": started.producer_epoch}
    topics = [{"name": run.name("t"), "partitions": [0]}]
    run.ask_at(
        1, "AddPartitionsToTxn", 3, v3_and_below_transactional_id=name,
        **{f"v3_and_below_{field}": value for field, value in producer.items()},
        v3_and_below_topics=topics,
    )  # fmt: skip
    records = batch(b"a", b"b", attributes=TRANSACTIONAL, base_sequence=0, **producer)
    data = {"name": run.name("t"), "partition_data": [{"index": 0, "records": records}]}
    run.ask_at(
        0, "Produce", 9, transactional_id=name, acks=-1, timeout_ms=10_000, topic_data=[data]
    )
    _seen(run, "open")
    run.stop(1)
    here = {kind: coordinator_now(run, key, kind) for key, kind in ((group, 0), (name, 1))}
    asked = {"group_id": group, "topics": [{"name": run.name("t"), "partition_indexes": [0]}]}
    run.ask_at(here[GROUP], "OffsetFetch", 7, **asked, require_stable=True)
    run.ask_at(here[GROUP], "DescribeGroups", 5, groups=[group])
    run.ask_at(here[TRANSACTION], "DescribeTransactions", 0, transactional_ids=[name])
    _seen(run, "still open")
    ended = {"transactional_id": name, **producer, "committed": True}
    run.ask_at(here[TRANSACTION], "EndTxn", 3, "committed elsewhere", **ended)
    run.until("it is committed", lambda: _stable(run) == 3)
    run.until(
        "that is written down",
        lambda: (
            run.look(here[TRANSACTION], "DescribeTransactions", 0, transactional_ids=[name])
            .transaction_states[0]
            .transaction_state
            == "CompleteCommit"
        ),
    )
    _seen(run, "committed")
    run.ask_at(here[TRANSACTION], "EndTxn", 3, "once more", **ended)
    run.ask_at(
        here[TRANSACTION], "InitProducerId", 4, "anew",
        transactional_id=name, transaction_timeout_ms=60_000,
    )  # fmt: skip
    run.ask_at(here[TRANSACTION], "EndTxn", 3, "by the old one", **ended)
    run.start(1)


def coordinator_now(run: ClusterRun, key: str, kind: int) -> int:
    """The successor, when it has loaded what it keeps."""
    if kind == GROUP:
        return coordinator_of(run, key, kind)
    here = int(run.look(0, "FindCoordinator", 3, key=key, key_type=kind).node_id)
    run.until(
        "it has loaded",
        lambda: (
            not run.look(here, "DescribeTransactions", 0, transactional_ids=[key])
            .transaction_states[0]
            .error_code
        ),
    )
    return here


def _seen(run: ClusterRun, what: str) -> None:
    """What readers see of the transaction, and who writes it."""
    entry = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 16}
    topics = [{"topic": run.name("t"), "partitions": [entry]}]
    for level in (0, 1):
        run.ask_at(
            0, "Fetch", 11, f"{what}, read at {level}", max_wait_ms=0, min_bytes=0,
            max_bytes=1 << 16, isolation_level=level, topics=topics,
        )  # fmt: skip
    asked = [{"name": run.name("t"), "partition_indexes": [0]}]
    run.ask_at(0, "DescribeProducers", 0, what, topics=asked)


def _stable(run: ClusterRun) -> int:
    entry = {"partition_index": 0, "timestamp": -1}
    topics = [{"name": run.name("t"), "partitions": [entry]}]
    told = run.look(0, "ListOffsets", 5, replica_id=-1, isolation_level=1, topics=topics)
    return int(told.topics[0].partitions[0].offset)
