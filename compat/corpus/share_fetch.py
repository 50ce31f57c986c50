"""ShareFetch and ShareAcknowledge (KIP-932): acquiring, giving back, locks, sessions."""

from typing import Any

from compat.batches import Batch, Rec, batch
from compat.corpus.sharing import (
    ACCEPT,
    GAP,
    REJECT,
    RELEASE,
    RENEW,
    Sharer,
    from_the_start,
    id_of,
)
from compat.corpus.transacting import Producer
from compat.script import Run, Topic, case
from compat.stored import SHARE_STATE, watch, written

FETCH, ACK = "ShareFetch", "ShareAcknowledge"
T, U = ("t", 0), ("u", 0)
FILL = [batch(b"a", b"b", b"c"), batch(b"d"), batch(b"e", b"f")]
TOPICS = {"t": Topic(partitions=2, fill=FILL), "u": Topic(fill=[batch(b"u")])}


def _started(run: Run, *names: str, **settings: str) -> list[Sharer]:
    """Members of one group that reads from the start."""
    run.coordinator(0)
    run.coordinator(2)
    from_the_start(run, **settings)
    members = [Sharer(run, name, many=number > 0) for number, name in enumerate(names or ("one",))]
    members[0].ready("t", "u")
    for member in members[1:]:
        member.join("t", "u")
    return members


@case(FETCH, topics=TOPICS)
def acquired(run: Run) -> None:
    "What one member has another one does not get."
    one, two = _started(run, "one", "two")
    one.fetch(T)
    two.poll(T)
    one.poll(T, step="one again")
    two.fetch(("t", 1), step="an empty partition", max_wait_ms=300)


@case(FETCH, topics=TOPICS)
def accepted_with_the_next_fetch(run: Run) -> None:
    watch(run, SHARE_STATE)
    (one,) = _started(run)
    one.fetch(T)
    one.poll(T, acks={T: [(0, 2, [ACCEPT])]})
    one.settled("t", 3)
    one.poll(T, acks={T: [(3, 5, [ACCEPT])]})
    one.settled("t", 0)
    run.ask_produce("t", batch(b"g"))
    one.fetch(T, step="the next record")
    one.fetch(T, acks={T: [(6, 6, [ACCEPT])]}, share_session_epoch=-1, step="the last fetch",
              max_wait_ms=0)  # fmt: skip
    one.settled("t", 0)
    written(run, SHARE_STATE, one.group)


@case(FETCH, topics=TOPICS)
def given_back(run: Run) -> None:
    "Released records come again with a higher count, to anybody; the fifth time is the last."
    watch(run, SHARE_STATE)
    one, two = _started(run, "one", "two")
    for number in range(16):
        sharer = (one, two)[number % 2]
        answer = sharer.poll(T, max_wait_ms=300, min_bytes=1, step=f"{sharer.name} {number}")
        if not answer.responses or not answer.responses[0].partitions[0].acquired_records:
            break
        sharer.give_back(answer)
    one.settled("t", 0)
    written(run, SHARE_STATE, one.group)


@case(FETCH, topics=TOPICS)
def rejected(run: Run) -> None:
    (one,) = _started(run)
    one.fetch(T)
    one.acknowledge({T: [(0, 0, [REJECT]), (1, 4, [ACCEPT]), (5, 5, [RELEASE])]})
    one.fetch(T, step="what was released")
    one.acknowledge({T: [(5, 5, [REJECT])]})
    one.settled("t", 0)


@case(FETCH, topics=TOPICS)
def limits(run: Run) -> None:
    "max_records counts whole batches, unless the mode says otherwise."
    one, two, three = _started(run, "one", "two", "three")
    one.fetch(T, max_records=1, batch_size=1)
    two.fetch(T, max_records=2, batch_size=500)
    three.poll(T, max_bytes=1, step="one byte")
    three.poll(T, max_records=0, step="no records")
    three.poll(T, max_records=-1, step="less than no records")
    three.poll(T, max_bytes=0, step="no bytes")


@case(FETCH, (2, 2), topics=TOPICS)
def exact_limits(run: Run) -> None:
    "Mode 1 counts records (KIP-1206)."
    one, two, three = _started(run, "one", "two", "three")
    one.fetch(T, max_records=2, batch_size=1, share_acquire_mode=1)
    two.fetch(T, max_records=1, batch_size=1, share_acquire_mode=1)
    three.poll(T, max_records=500, share_acquire_mode=1, step="the rest")
    three.poll(T, share_acquire_mode=7, step="unknown mode")


@case(FETCH, topics=TOPICS)
def sessions(run: Run) -> None:
    one, two = _started(run, "one", "two")
    one.poll(T, share_session_epoch=1, step="no session yet")
    one.poll(T, share_session_epoch=-1, step="ends what is not there")
    one.poll(T, share_session_epoch=-2, step="epoch -2")
    one.fetch(T)
    one.poll(share_session_epoch=5, step="an epoch too far")
    one.poll(share_session_epoch=0, step="anew without partitions")
    one.session = 0
    one.poll(T, step="anew")
    one.poll(step="nothing named")
    one.fetch(("t", 1), step="one more partition", max_wait_ms=300)
    forgotten = [{"topic_id": run.topic_id("t"), "partitions": [0]}]
    one.poll(forgotten_topics_data=forgotten, step="one partition less")
    one.poll(share_session_epoch=-1, step="ends")
    one.poll(T, step="after the end")
    two.poll(T, acks={T: [(0, 0, [ACCEPT])]}, step="acknowledges with its first fetch")


@case(FETCH, topics=TOPICS)
def refused(run: Run) -> None:
    (one,) = _started(run)
    for step, change in (
        ("empty group id", {"group_id": ""}),
        ("no group id", {"group_id": None}),
        ("empty member id", {"member_id": ""}),
        ("no member id", {"member_id": None}),
        ("a member id that is no UUID", {"member_id": "m"}),
        ("unknown group", {"group_id": run.group("nobody")}),
        ("unknown member", {"member_id": Sharer(run, "nobody").id}),
    ):
        one.fetch(T, step=step, max_wait_ms=500, **change)
        one.session = 0
    one.fetch(("no-such", 0), step="unknown topic", max_wait_ms=500)
    one.fetch(("t", 9), step="a partition that is not there", max_wait_ms=500)
    one.poll(T, acks={T: [(0, 0, [9])]}, step="an unknown type")
    one.poll(T, acks={T: [(0, 0, [])]}, step="no type")
    one.poll(T, acks={T: [(5, 0, [ACCEPT])]}, step="backwards")
    one.poll(T, acks={T: [(0, 2, [ACCEPT, ACCEPT])]}, step="two types for three")
    one.poll(T, acks={T: [(0, 1, [ACCEPT]), (1, 2, [ACCEPT])]}, step="overlapping")


@case(FETCH, topics=TOPICS)
def fetch_that_waits(run: Run) -> None:
    "It is answered when records come, or when others are given back."
    one, two = _started(run, "one", "two")
    one.fetch(T)
    two.poll(T)
    version = run.version
    waiting = run.begin(FETCH, version, link="two", step="two waits", client="client-two",
                        **two.fetching(T))  # fmt: skip
    run.waits(waiting)
    one.acknowledge({T: [(0, 5, [RELEASE])]})
    run.finish(waiting)
    two.session += 1
    two.acknowledge({T: [(0, 5, [ACCEPT])]})
    waiting = run.begin(FETCH, version, link="two", step="two waits for more",
                        client="client-two", **two.fetching(T))  # fmt: skip
    run.waits(waiting)
    run.ask_produce("t", batch(b"new"))
    run.finish(waiting)
    two.session += 1
    two.poll(T, max_wait_ms=100, min_bytes=1, step="waits in vain")


@case(FETCH, topics=TOPICS)
def lock_that_ends(run: Run) -> None:
    "After the lock's time the records are free again."
    one, two = _started(run, "one", "two", record_lock_duration_ms="1000")
    one.fetch(T)
    two.fetch(T, step="two waits for the end of the lock")
    one.acknowledge({T: [(0, 5, [ACCEPT])]}, step="one is too late")
    two.acknowledge({T: [(0, 5, [ACCEPT])]})
    two.settled("t", 0)


@case(FETCH, topics=TOPICS)
def member_that_leaves(run: Run) -> None:
    "What it had is free when its session is closed."
    one, two = _started(run, "one", "two")
    one.fetch(T)
    one.poll(share_session_epoch=-1, step="closes its session")
    run.pause(0.2)
    two.fetch(T)
    two.leave()
    two.acknowledge({T: [(0, 5, [ACCEPT])]}, step="after it left")


@case(FETCH, topics=TOPICS)
def from_the_end(run: Run) -> None:
    "Without a setting a group begins at the end."
    run.coordinator(2)
    one = Sharer(run, "one")
    one.ready()
    one.poll(T, max_wait_ms=400, min_bytes=1)
    run.ask_produce("t", batch(b"new"))
    one.fetch(T)


@case(FETCH, topics=TOPICS)
def transactions(run: Run) -> None:
    "Aborted records are not for groups that read what is committed; markers are for nobody."
    run.coordinator(2)
    producer = Producer(run)
    producer.init()
    for number, committed in enumerate((False, True)):
        producer.add(("u", 0))
        producer.produce("u", b"%d" % number, version=9)
        producer.end(committed=committed)
        producer.describe_until("CompleteCommit" if committed else "CompleteAbort")
    for level in ("read_uncommitted", "read_committed"):
        group = run.group(level)
        from_the_start(run, group, isolation_level=level)
        one = Sharer(run, level[5:], group)
        one.ready("u")
        one.fetch(U)
        one.acknowledge({U: [(0, 0, [ACCEPT])]})


@case(FETCH, topics=TOPICS)
def below_the_log_start(run: Run) -> None:
    "Records that were deleted while they were out."
    (one,) = _started(run)
    one.fetch(T)
    partition = {"partition_index": 0, "offset": 4}
    run.ask("DeleteRecords", 2, topics=[{"name": run.name("t"), "partitions": [partition]}],
            timeout_ms=5000)  # fmt: skip
    one.acknowledge({T: [(0, 5, [ACCEPT])]})
    run.ask_produce("t", batch(b"new"))
    one.fetch(T)


@case(FETCH, topics=TOPICS)
def batches_with_gaps(run: Run) -> None:
    run.ask_produce("u", Batch([Rec(b"x"), Rec(b"y")], last_offset_delta=1).encode())
    (one,) = _started(run)
    one.fetch(U)
    one.acknowledge({U: [(0, 2, [ACCEPT, GAP, ACCEPT])]})


@case(ACK, topics=TOPICS)
def acknowledged(run: Run) -> None:
    watch(run, SHARE_STATE)
    (one,) = _started(run)
    one.fetch(T)
    one.acknowledge({T: [(0, 1, [ACCEPT])]}, step="two of a batch")
    one.acknowledge({T: [(2, 2, [RELEASE])]}, step="the third")
    one.acknowledge({T: [(3, 5, [ACCEPT, REJECT, RELEASE])]}, step="three, each its own way")
    one.fetch(T, step="what was released")
    one.acknowledge({T: [(2, 2, [ACCEPT]), (5, 5, [ACCEPT])]}, step="those two")
    one.settled("t", 0)
    written(run, SHARE_STATE, one.group)


@case(ACK, topics=TOPICS)
def acknowledged_wrongly(run: Run) -> None:
    one, two = _started(run, "one", "two")
    one.acknowledge({T: [(0, 0, [ACCEPT])]}, step="no session")
    one.fetch(T)
    two.poll(T)
    two.acknowledge({T: [(0, 0, [ACCEPT])]}, step="of another member")
    for step, acks in (
        ("beyond the end", [(0, 9, [ACCEPT])]),
        ("not there at all", [(20, 20, [ACCEPT])]),
        ("negative", [(-1, 0, [ACCEPT])]),
        ("an unknown type", [(0, 0, [9])]),
        ("a negative type", [(0, 0, [-1])]),
        ("no type", [(0, 0, [])]),
        ("backwards", [(2, 1, [ACCEPT])]),
        ("two types for three", [(0, 2, [ACCEPT, ACCEPT])]),
        ("overlapping", [(0, 1, [ACCEPT]), (1, 2, [ACCEPT])]),
        ("no batches", []),
    ):
        one.acknowledge({T: acks}, step=step)
    one.acknowledge({("t", 1): [(0, 0, [ACCEPT])]}, step="a partition outside the session")
    one.acknowledge({("no-such", 0): [(0, 0, [ACCEPT])]}, step="unknown topic")
    one.acknowledge({("t", 9): [(0, 0, [ACCEPT])]}, step="a partition that is not there")
    one.acknowledge({T: [(0, 2, [ACCEPT])]}, step="right")
    one.acknowledge({T: [(0, 2, [ACCEPT])]}, step="once more")
    one.acknowledge({T: [(1, 4, [ACCEPT])]}, step="some again")
    one.acknowledge({T: [(3, 3, [GAP])]}, step="a gap that is none")


@case(ACK, topics=TOPICS)
def sessions_of_acknowledgements(run: Run) -> None:
    (one,) = _started(run)
    one.fetch(T)
    one.acknowledge({T: [(0, 0, [ACCEPT])]}, share_session_epoch=0, step="epoch 0")
    one.acknowledge({T: [(0, 0, [ACCEPT])]}, share_session_epoch=9, step="an epoch too far")
    # Nobody else's member: of the sessions of one connection Apache Kafka ends only the last with
    # it, and the one that another case left in the group without a name would be found.
    apart = Sharer(run, "apart").id
    for step, change in (
        ("empty group id", {"group_id": "", "member_id": apart}),
        ("no group id", {"group_id": None}),
        ("empty member id", {"member_id": ""}),
        ("a member id that is no UUID", {"member_id": "m"}),
        ("unknown group", {"group_id": run.group("nobody")}),
        ("unknown member", {"member_id": Sharer(run, "nobody").id}),
    ):
        before = one.session
        one.acknowledge({T: [(0, 0, [ACCEPT])]}, step=step, **change)
        one.session = before
    one.acknowledge({}, step="nothing")
    one.acknowledge({T: [(0, 0, [ACCEPT])]}, share_session_epoch=-1, step="the last one")
    one.acknowledge({T: [(1, 1, [ACCEPT])]}, step="after the last one")


@case(ACK, (2, 2), topics=TOPICS)
def renewed(run: Run) -> None:
    "Version 2 can ask for more time (KIP-1222)."
    one, two = _started(run, "one", "two", record_lock_duration_ms="1000")
    one.fetch(T)
    run.pause(0.6)
    one.acknowledge({T: [(0, 5, [RENEW])]}, is_renew_ack=True, step="renews")
    run.pause(0.6)
    two.poll(T, step="still locked")
    one.acknowledge({T: [(0, 2, [ACCEPT]), (3, 5, [RENEW])]}, is_renew_ack=True, step="both")
    one.acknowledge({T: [(3, 3, [RENEW])]}, step="renews without saying so")
    one.acknowledge({T: [(9, 9, [RENEW])]}, is_renew_ack=True, step="what it does not have")
    one.acknowledge({T: [(3, 5, [ACCEPT])]}, is_renew_ack=True, step="says so without renewing")


@case(FETCH, (2, 2), topics=TOPICS)
def renewed_by_a_fetch(run: Run) -> None:
    (one,) = _started(run)
    one.fetch(T)
    nothing: dict[str, Any] = {
        "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 0, "max_records": 0, "is_renew_ack": True
    }  # fmt: skip
    one.fetch(T, acks={T: [(0, 5, [RENEW])]}, step="renews", **nothing)
    one.fetch(T, acks={T: [(0, 5, [RENEW])]}, step="renews and fetches", is_renew_ack=True,
              max_wait_ms=0, min_bytes=0)  # fmt: skip
    one.fetch(T, acks={T: [(0, 0, [RENEW])]}, step="without saying so", max_wait_ms=0, min_bytes=0)


def _malformed(run: Run) -> None:
    run.send_body(run.case.api, run.version, b"", step="no body", link="1")
    run.send_body(run.case.api, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(run.case.api, run.version, b"\xff" * 20, step="twenty bytes", link="3")


@case(FETCH)
def malformed(run: Run) -> None:
    _malformed(run)


@case(ACK)
def malformed_acknowledgement(run: Run) -> None:
    _malformed(run)


@case(ACK)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    topics = [{"topic_id": id_of(run, "none"), "partitions": []}]
    run.extra(b"x", group_id=run.group(), member_id="m", share_session_epoch=3, topics=topics)
