"""AlterPartition and AllocateProducerIds, from somebody who knows the broker epochs: they are in
ZooKeeper (the transaction that registered the broker).
"""

from collections.abc import Sequence
from typing import Any

from compat.cluster.script import ClusterRun, scenario, versions

LEADER = 1
NOBODY = 9


def _ask(
    run: ClusterRun,
    version: int,
    what: str,
    isr: Sequence[int] = (1, 2),
    *,
    broker_id: int = LEADER,
    epoch: int | None = None,
    name: str | None = None,
    states: Sequence[int] | None = None,
    **data: Any,
) -> None:
    wish = {
        "partition_index": 0,
        "leader_epoch": 0,
        "partition_epoch": 0,
        "new_isr": list(isr),
        "new_isr_with_epochs": [
            {"broker_id": b, "broker_epoch": run.place.broker_epoch(b)} for b in isr
        ],
        **data,
    }
    if states is not None:
        wish["new_isr_with_epochs"] = [
            {"broker_id": b, "broker_epoch": e} for b, e in zip(isr, states, strict=True)
        ]
    topic = {
        "topic_name": name or run.name("t"),
        "topic_id": run.other_id() if name else run.topic_id("t"),
        "partitions": [wish],
    }
    run.ask_at(
        run.controller, "AlterPartition", version, what,
        broker_id=broker_id,
        broker_epoch=run.place.broker_epoch(broker_id) if epoch is None else epoch,
        topics=[topic],
    )  # fmt: skip


@scenario()
def in_sync_replicas(run: ClusterRun) -> None:
    run.create("t", [[1, 2]])
    run.tree("before")
    for version in versions("AlterPartition"):
        _ask(run, version, "old broker epoch", epoch=0)
        _ask(run, version, "no such broker", broker_id=NOBODY, epoch=0)
        _ask(run, version, "unknown topic", name="no-such-topic")
        _ask(run, version, "unknown partition", partition_index=9)
        _ask(run, version, "leader epoch to come", leader_epoch=1)
        _ask(run, version, "leader epoch of before", leader_epoch=-1)
        _ask(run, version, "partition epoch to come", partition_epoch=5)
        _ask(run, version, "the same")
        if version >= 3:
            _ask(run, version, "an old epoch of a replica", states=[-1, 0])
        if version >= 1:
            _ask(run, version, "recovering", leader_recovery_state=1)
            _ask(run, version, "no such state", leader_recovery_state=7)
    run.tree("nothing was done")


@scenario()
def what_a_leader_says(run: ClusterRun) -> None:
    "Nobody asks whether what is in sync is a replica at all."
    run.create("t", [[1, 2]])
    run.tree("before")
    _ask(run, 2, "a replica that is none", [1, 2, 0])
    run.tree("a replica that is none")
    _ask(run, 2, "nobody", [1, NOBODY], partition_epoch=1)
    run.tree("nobody")
    _ask(run, 2, "nothing", [], partition_epoch=2)
    run.tree("nothing")
    gone = [{"name": run.name("t")}]
    run.ask_at(run.controller, "DeleteTopics", 6, topics=gone, timeout_ms=20_000)
    run.until("it is gone", lambda: not any(run.name("t") in p for p in run.place.tree()))


@scenario()
def ids_from_the_controller(run: ClusterRun) -> None:
    at = run.controller
    asked = {"broker_id": NOBODY, "broker_epoch": 0}
    run.ask_at(at, "AllocateProducerIds", 0, "no such broker", **asked)
    run.ask_at(at, "AllocateProducerIds", 0, "old epoch", broker_id=2, broker_epoch=0)
    run.tree("before")
    epoch = run.place.broker_epoch(2)
    run.ask_at(at, "AllocateProducerIds", 0, "a block", broker_id=2, broker_epoch=epoch)
    run.tree("a block was given")


@scenario()
def shutdown_refused(run: ClusterRun) -> None:
    at = run.controller
    for version in versions("ControlledShutdown"):
        run.ask_at(at, "ControlledShutdown", version, "no such broker", broker_id=NOBODY)
    for version in versions("ControlledShutdown", 2):
        for epoch in (0, 1):
            run.ask_at(
                at, "ControlledShutdown", version, f"old epoch {epoch}",
                broker_id=2, broker_epoch=epoch,
            )  # fmt: skip
