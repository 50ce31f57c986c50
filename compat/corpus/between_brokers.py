"""Requests between brokers, from somebody who poses as one: a broker alone is controller and broker
at once, and answers itself too.

The broker epoch is in no answer that a client gets. Where it must be right, it is found by trying:
it is a small number on a new ZooKeeper, and the first of an opening in the embedded store.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from compat.reference import NODE_ID
from compat.script import Run, Topic, case

CONTROLLER_EPOCH = 1
"""Of a cluster whose first controller still is."""
OPENING = 1 << 32
TRIES = 120
STALE_BROKER_EPOCH = 77
NOBODY = 99


def _epochs() -> Iterator[int]:
    for number in range(1, TRIES):
        yield number
        yield OPENING + number


def _with_epoch(run: Run, step: str, **fields: Any) -> Any:
    """The case's request with the right broker epoch; the tries before are not written down."""
    for epoch in _epochs():
        answer = run.call(broker_epoch=epoch, step=step, **fields)
        if answer is None or answer.error_code != STALE_BROKER_EPOCH:
            return answer
        run.steps.pop()
    return run.call(broker_epoch=0, step=step, **fields)


# --- to the controller ----------------------------------------------------------------------------


@case("AllocateProducerIds", alone=True)
def producer_ids(run: Run) -> None:
    first = _with_epoch(run, "a block", broker_id=NODE_ID)
    second = _with_epoch(run, "the next block", broker_id=NODE_ID)
    if first is not None and second is not None:
        assert second.producer_id_start - first.producer_id_start == first.producer_id_len
    run.call(broker_id=NODE_ID, broker_epoch=0, step="old broker epoch")
    run.call(broker_id=NOBODY, broker_epoch=0, step="no such broker")
    run.call(broker_id=NODE_ID, broker_epoch=-1, step="no epoch")


@case("ControlledShutdown")
def shutdown_refused(run: Run) -> None:
    "What is granted would end the broker: that is for clusters."
    for broker_id in (NOBODY, -5):
        run.call(broker_id=broker_id, step=f"no such broker {broker_id}")
    if run.version >= 2:
        run.call(broker_id=NODE_ID, broker_epoch=0, step="old broker epoch")


def _wish(run: Run, isr: Sequence[int], **more: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"leader_epoch": 0, "partition_epoch": 0, **more}
    if run.version >= 3:
        data["new_isr_with_epochs"] = [{"broker_id": broker_id} for broker_id in isr]
    else:
        data["new_isr"] = list(isr)
    return data


def _of(run: Run, *partitions: dict[str, Any], name: str | None = None) -> list[dict[str, Any]]:
    topic_id = run.topic_id("t") if name is None else run.other_id()
    return [
        {
            "topic_name": name or run.name("t"),
            "topic_id": topic_id,
            "partitions": list(partitions),
        }
    ]


@case("AlterPartition", topics={"t": Topic()}, alone=True)
def in_sync_replicas(run: Run) -> None:
    same = _wish(run, [NODE_ID])
    _with_epoch(run, "the same ISR", broker_id=NODE_ID, topics=_of(run, same))
    for step, topics in (
        ("unknown topic", _of(run, same, name="no-such-topic")),
        ("unknown partition", _of(run, {**same, "partition_index": 9})),
        ("leader epoch too new", _of(run, _wish(run, [NODE_ID], leader_epoch=1))),
        ("leader epoch too old", _of(run, _wish(run, [NODE_ID], leader_epoch=-1))),
        ("partition epoch too new", _of(run, _wish(run, [NODE_ID], partition_epoch=1))),
        ("a replica that is not there", _of(run, _wish(run, [NODE_ID, NOBODY]))),
        ("several", _of(run, same, {**same, "partition_index": 7})),
        ("nothing", []),
    ):
        _with_epoch(run, step, broker_id=NODE_ID, topics=topics)
    run.call(broker_id=NODE_ID, broker_epoch=0, topics=_of(run, same), step="old broker epoch")
    run.call(broker_id=NOBODY, broker_epoch=0, topics=_of(run, same), step="no such broker")


@case("AlterPartition", (1, 3), topics={"t": Topic()}, alone=True)
def recovering(run: Run) -> None:
    "A partition that is not recovering cannot begin to be."
    wish = _wish(run, [NODE_ID], leader_recovery_state=1)
    _with_epoch(run, "recovering", broker_id=NODE_ID, topics=_of(run, wish))


@case("ElectLeaders", topics={"t": Topic(partitions=2)})
def elections(run: Run) -> None:
    name = run.name("t")
    kinds = (0, 1) if run.version >= 1 else (0,)
    for kind in kinds:
        for step, topics in (
            ("not needed", [{"topic": name, "partitions": [0, 1]}]),
            ("nothing", []),
            ("no partitions", [{"topic": name, "partitions": []}]),
            ("unknown topic", [{"topic": "no-such-topic", "partitions": [0]}]),
            ("unknown partition", [{"topic": name, "partitions": [0, 9]}]),
        ):
            run.call(
                election_type=kind,
                topic_partitions=topics,
                timeout_ms=5000,
                step=f"{step}, kind {kind}",
            )
    if run.version >= 1:
        wanted = [{"topic": name, "partitions": [0]}]
        run.call(election_type=9, topic_partitions=wanted, step="unknown kind")


@case("ElectLeaders", alone=True)
def elections_everywhere(run: Run) -> None:
    "Nothing is out of place: nothing is told."
    run.call(topic_partitions=None, timeout_ms=5000)


# --- to a broker ----------------------------------------------------------------------------------


def _told(run: Run, alias: str, topic_id: bytes, *states: dict[str, Any]) -> dict[str, Any]:
    """LeaderAndIsr of one topic, in the form of the version."""
    name = run.fresh(alias)
    states_ = [
        {
            "topic_name": name,
            "controller_epoch": CONTROLLER_EPOCH,
            "leader": NODE_ID,
            "isr": [NODE_ID],
            "replicas": [NODE_ID],
            "is_new": True,
            **state,
        }
        for state in states
    ]
    fields: dict[str, Any] = {"controller_id": NODE_ID, "controller_epoch": CONTROLLER_EPOCH}
    if run.version < 2:
        fields["ungrouped_partition_states"] = states_
    else:
        for state in states_:
            del state["topic_name"]
        fields["topic_states"] = [
            {"topic_name": name, "topic_id": topic_id, "partition_states": states_}
        ]
    return fields


@case("LeaderAndIsr", alone=True)
def leadership(run: Run) -> None:
    "A broker believes whoever has the epochs right."
    mine = run.other_id(run.version)

    def tell(step: str, *states: dict[str, Any], **more: Any) -> None:
        topic_id = more.pop("topic_id", mine)
        run.call(**{**_told(run, "t", topic_id, *states), **more}, step=step)

    tell("new", {"leader_epoch": 3}, {"partition_index": 1, "leader_epoch": 3})
    tell("the same leader epoch", {"leader_epoch": 3})
    tell("an older leader epoch", {"leader_epoch": 2})
    tell("a newer leader epoch", {"leader_epoch": 4, "partition_epoch": 1})
    tell("not a replica", {"partition_index": 5, "replicas": [NOBODY], "leader_epoch": 1})
    tell("an old controller", {"leader_epoch": 9}, controller_epoch=0)
    tell("nothing")
    if run.version >= 2:
        tell("an old broker epoch", {"leader_epoch": 9}, broker_epoch=0)
    if run.version >= 5:
        other = run.other_id(99)
        tell("another topic id", {"leader_epoch": 9}, topic_id=other)
    # What is there now, and away with it: the broker holds no more than before.
    gone = {"topic": run.fresh("t"), "partitions": [0, 1]}
    _stop(run, gone, 4)


def _stop(run: Run, gone: dict[str, Any], version: int) -> None:
    states = [
        {"partition_index": index, "leader_epoch": -2, "delete_partition": True}
        for index in gone["partitions"]
    ]
    run.ask(
        "StopReplica",
        version,
        controller_id=NODE_ID,
        controller_epoch=CONTROLLER_EPOCH,
        topic_states=[{"topic_name": gone["topic"], "partition_states": states}],
        step="away with it",
    )


@case("StopReplica", alone=True)
def stopping(run: Run) -> None:
    name = run.fresh("t")
    run_version, leader_version = run.version, 7
    told = {
        "controller_id": NODE_ID,
        "controller_epoch": CONTROLLER_EPOCH,
        "topic_states": [
            {
                "topic_name": name,
                "topic_id": run.other_id(50 + run_version),
                "partition_states": [
                    {
                        "controller_epoch": CONTROLLER_EPOCH,
                        "leader": NODE_ID,
                        "leader_epoch": 5,
                        "isr": [NODE_ID],
                        "replicas": [NODE_ID],
                        "is_new": True,
                    }
                ],
            }
        ],
    }
    run.ask("LeaderAndIsr", leader_version, step="it is there", **told)

    def stop(step: str, *, delete: bool, index: int = 0, epoch: int = -1, **more: Any) -> None:
        fields: dict[str, Any] = {"controller_id": NODE_ID, "controller_epoch": CONTROLLER_EPOCH}
        if run_version >= 3:
            state = {"partition_index": index, "leader_epoch": epoch, "delete_partition": delete}
            fields["topic_states"] = [{"topic_name": name, "partition_states": [state]}]
        else:
            fields["delete_partitions"] = delete
            one = {"topic_name": name, "partition_index": index}
            if run_version >= 1:
                fields["topics"] = [{"name": name, "partition_indexes": [index]}]
            else:
                fields["ungrouped_partitions"] = [one]
        run.call(**{**fields, **more}, step=step)

    stop("an old controller", delete=True, controller_epoch=0)
    stop("a controller of before", delete=True, controller_epoch=-1)
    if run_version >= 1:
        stop("an old broker epoch", delete=True, broker_epoch=0)
    if run_version >= 3:
        stop("an older leader epoch", delete=True, epoch=4)
    stop("stop", delete=False)
    stop("stop what is not there", delete=False, index=8)
    stop("delete", delete=True, epoch=5)
    stop("delete again", delete=True, epoch=5)


@case("UpdateMetadata", alone=True)
def picture(run: Run) -> None:
    "A topic that nobody created comes into the picture, and leaves it again."
    name = run.fresh("t")

    def tell(step: str, leader: int | None, **more: Any) -> None:
        states: list[dict[str, Any]] = []
        if leader is not None:
            states = [
                {
                    "topic_name": name,
                    "controller_epoch": CONTROLLER_EPOCH,
                    "leader": leader,
                    "leader_epoch": 3,
                    "isr": [NODE_ID],
                    "replicas": [NODE_ID],
                }
            ]
        fields: dict[str, Any] = {
            "controller_id": NODE_ID,
            "controller_epoch": CONTROLLER_EPOCH,
            "live_brokers": [_live(run)],
        }
        if run.version < 5:
            fields["ungrouped_partition_states"] = states
        else:
            for state in states:
                del state["topic_name"]
            topic = {
                "topic_name": name,
                "topic_id": run.other_id(80 + run.version),
                "partition_states": states,
            }
            fields["topic_states"] = [topic] if states else []
        run.call(**{**fields, **more}, step=step)

    def look(step: str) -> None:
        asked = [{"name": name}]
        run.ask("Metadata", 9, topics=asked, allow_auto_topic_creation=False, step=step)

    tell("an old controller", NODE_ID, controller_epoch=0)
    tell("a controller of before", NODE_ID, controller_epoch=-1)
    if run.version >= 5:
        tell("an old broker epoch", NODE_ID, broker_epoch=0)
    look("not there")
    tell("a topic", NODE_ID)
    look("there")
    tell("no leader", -1)
    look("without a leader")
    tell("nothing new", None)
    tell("on its way out", -2)
    look("gone")


def _live(run: Run) -> dict[str, Any]:
    host, port = run.side.host, run.side.port
    if run.version == 0:
        return {"id": NODE_ID, "v0_host": host, "v0_port": port}
    endpoint = {"host": host, "port": port, "listener": "PLAINTEXT", "security_protocol": 0}
    return {"id": NODE_ID, "endpoints": [endpoint], "rack": None}
