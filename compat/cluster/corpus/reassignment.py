"""AlterPartitionReassignments and ListPartitionReassignments (KIP-455): refusals, replicas that
come and go, one that is under way while a new replica hangs, cancelled and replaced.
"""

import json
from collections.abc import Sequence
from typing import Any

from compat.batches import batch
from compat.cluster.script import ClusterRun, scenario, versions

ALTER, LIST = "AlterPartitionReassignments", "ListPartitionReassignments"


def _alter(
    run: ClusterRun,
    what: str,
    wishes: dict[int, Sequence[int] | None],
    alias: str = "t",
    at: int | None = None,
) -> Any:
    partitions = [{"partition_index": i, "replicas": r and list(r)} for i, r in wishes.items()]
    topic = {"name": run.name(alias), "partitions": partitions}
    return run.ask_at(
        run.controller if at is None else at, ALTER, 0, what, topics=[topic], timeout_ms=10_000
    )


def _list(run: ClusterRun, what: str, *indexes: int, at: int | None = None) -> Any:
    topic = {"name": run.name("t"), "partition_indexes": list(indexes)}
    return run.ask_at(
        run.controller if at is None else at, LIST, 0, f"list: {what}",
        topics=[topic] if indexes else None, timeout_ms=10_000,
    )  # fmt: skip


def _placed(run: ClusterRun, index: int, *replicas: int) -> None:
    """Waits until a partition has these replicas, all in sync, everywhere."""
    wanted = list(replicas)
    run.known(
        f"{index} on {wanted}",
        "t",
        lambda s: list(s[index].replica_nodes) == wanted and set(s[index].isr_nodes) == set(wanted),
    )


@scenario(ALTER, LIST)
def reassignments_refused(run: ClusterRun) -> None:
    run.create("t", [[0, 1], [1, 2]])
    run.tree("before")
    other = next(i for i in run.place.live if i != run.controller)
    _alter(run, "not the controller", {0: [2, 1]}, at=other)
    _list(run, "not the controller", 0, at=other)
    for step, replicas in (
        ("twice", [1, 1]),
        ("nobody", [0, 9]),
        ("negative", [0, -1]),
        ("nothing to cancel", None),
        ("empty", []),
    ):
        _alter(run, step, {0: replicas})
    _alter(run, "unknown partition", {7: [0, 1], -1: [0, 1]})
    _alter(run, "unknown topic", {0: [0, 1]}, "never")
    _alter(run, "no partitions", {})
    _alter(run, "the same", {0: [0, 1]})
    run.ask_at(run.controller, ALTER, 0, "nothing", topics=[], timeout_ms=10_000)
    _list(run, "everything")
    _list(run, "two", 0, 1)
    _list(run, "unknown partition", 7)
    run.tree("nothing was done")


@scenario(ALTER, LIST)
def replicas_move(run: ClusterRun) -> None:
    run.create("t", [[0, 1], [1, 2], [2, 0]])
    for index, leader in enumerate((0, 1, 2)):
        run.produce_at(leader, "t", batch(b"a", b"b"), index)
    run.tree("before")
    for step, index, replicas in (
        ("another follower", 0, [0, 2]),
        ("the same in another order", 1, [2, 1]),
        ("another leader", 1, [0, 2]),
        ("more", 2, [2, 0, 1]),
        ("all others", 0, [1]),
        ("fewer", 2, [1, 0]),
    ):
        _alter(run, step, {index: replicas})
        _placed(run, index, *replicas)
        run.until(
            "no reassignment is left",
            lambda: not run.look(run.controller, LIST, 0, topics=None, timeout_ms=10_000).topics,
        )
        run.tree(step)
    named = [{"name": run.name("t")}]
    for version in versions("Metadata"):
        run.everywhere("Metadata", version, topics=named, allow_auto_topic_creation=False)
    run.led("t", 1, 0, 1)
    for index, leader in enumerate((1, 0, 1)):
        run.ask_at(
            leader, "Fetch", 11, f"partition {index}", max_wait_ms=0, min_bytes=0, max_bytes=9999,
            topics=[{"topic": run.name("t"), "partitions": [
                {"partition": index, "fetch_offset": 0, "partition_max_bytes": 9999}]}],
        )  # fmt: skip


@scenario(ALTER, LIST)
def asked_in_zookeeper(run: ClusterRun) -> None:
    "As tools did that came before the requests."
    run.create("t", [[0, 1], [1, 2]])
    _alter(run, "the same in another order", {0: [1, 0]})
    _placed(run, 0, 1, 0)
    run.tree("before")
    name = run.name("t")
    wish = {"version": 1, "partitions": [{"topic": name, "partition": 0}]}
    run.place.write("/admin/preferred_replica_election", json.dumps(wish))
    run.led("t", 1, 1)
    run.tree("elected")
    moves = [
        {"topic": name, "partition": 1, "replicas": [2, 0]},
        {"topic": name, "partition": 7, "replicas": [2, 0]},
        {"topic": "never", "partition": 0, "replicas": [0]},
    ]
    run.place.write("/admin/reassign_partitions", json.dumps({"version": 1, "partitions": moves}))
    _placed(run, 1, 2, 0)
    run.tree("moved")


@scenario(ALTER, LIST)
def under_way(run: ClusterRun) -> None:
    "The new replica hangs: nothing is finished until it goes on."
    at = run.controller
    stay, leave, new = at, *(i for i in run.place.brokers if i != at)
    run.create("t", [[stay, leave], [stay, leave]])
    run.produce_at(stay, "t", batch(b"a", b"b"))
    run.tree("before")
    run.place.pause(new)
    _alter(run, "begun", {0: [stay, new]})
    _known_at(run, (stay, leave), 0, 3)
    run.tree("begun")
    _list(run, "begun", 0, 1)
    _list(run, "all that are begun")
    _list(run, "one that is not", 1)
    for version in versions("Metadata"):
        for broker_id in (stay, leave):
            run.ask_at(
                broker_id, "Metadata", version, "under way",
                topics=[{"name": run.name("t")}], allow_auto_topic_creation=False,
            )  # fmt: skip
    run.produce_at(stay, "t", batch(b"c"), what="under way")
    _alter(run, "the same again", {0: [stay, new]})
    wish = {"name": run.name("t"), "count": 3, "assignments": None}
    run.ask_at(at, "CreatePartitions", 3, "grown under way", topics=[wish], timeout_ms=3000)
    _alter(run, "replaced", {0: [new, stay]})
    _known_at(run, (stay, leave), 0, 3)
    run.tree("replaced")
    _list(run, "replaced", 0)
    _alter(run, "cancelled", {0: None})
    _known_at(run, (stay, leave), 0, 2)
    run.tree("cancelled")
    _list(run, "cancelled")
    _alter(run, "cancelled twice", {0: None})
    _alter(run, "begun once more", {0: [new], 1: [stay, leave, new]})
    _known_at(run, (stay, leave), 0, 3)
    run.tree("begun once more")
    _list(run, "two")
    run.place.resume(new)
    _placed(run, 0, new)
    _placed(run, 1, stay, leave, new)
    run.tree("finished")
    _list(run, "nothing")


def _known_at(run: ClusterRun, brokers: Sequence[int], index: int, count: int) -> None:
    """Waits until these know a partition to have so many replicas."""
    run.until(
        f"{count} replicas",
        lambda: all(len(run.states(i, "t")[index].replica_nodes) == count for i in brokers),
    )
