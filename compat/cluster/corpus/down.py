"""Brokers are stopped, killed and come back, one after the other; what the others answer meanwhile,
who leads then, and how logs and leader epochs agree again.
"""

from typing import Any

from compat.batches import batch, message
from compat.cluster.corpus.wrong_broker import controllers_requests
from compat.cluster.script import ClusterRun, scenario, versions

PREFERRED, UNCLEAN = 0, 1
ALL = ("quorum", "lone", "pair", "unclean", "grow", "t")


@scenario()
def a_leader_is_killed(run: ClusterRun) -> None:
    "Nobody knows before its session is over."
    run.create("quorum", [[1, 2, 0]], min_insync_replicas="2")
    run.create("lone", [[1]])
    run.create("pair", [[2, 1]])
    run.create("grow", [[1, 0]])
    for alias, leader in (("quorum", 1), ("pair", 2)):
        run.produce_at(leader, alias, batch(b"a", b"b"))
    run.replicated("quorum", 0, 2, 0, 2)
    run.tree("before")
    run.kill(1)
    run.tree("killed")
    _metadata(run, 0, "dead, not gone")
    for version in versions("Produce", 9):
        run.produce_at(2, "quorum", batch(b"x"), version=version, what="dead, not gone")
    run.produce_at(2, "pair", batch(b"c"), timeout_ms=300, what="a follower is dead")
    run.expire(1)
    run.led("quorum", 2)
    run.shrunk("pair", [2])
    run.tree("its session is over")
    for broker_id in run.place.live:
        _metadata(run, broker_id, "gone")
    for version in versions("Produce", 9):
        run.produce_at(0, "quorum", batch(b"x"), version=version, what="gone")
    run.produce_at(2, "quorum", batch(b"c"), what="another leader")
    run.replicated("pair", 0, 3, 2)
    run.start(1)
    run.in_sync("quorum", "lone", "pair", "grow")
    run.tree("it came back")
    _epochs(run, {"quorum": 2, "pair": 2})


@scenario()
def brokers_go_and_come(run: ClusterRun) -> None:
    _topics(run)
    run.tree("before")
    run.stop(2)
    run.shrunk("quorum", [1, 0])
    run.shrunk("pair", [1])
    run.known("no leader", "lone", lambda s: bool(s) and s[0].leader_id == -1)
    run.tree("broker 2 was stopped")
    _one_is_down(run)

    run.stop(1)
    run.shrunk("quorum", [0])
    run.led("pair", -1)
    run.led("unclean", -1)
    run.tree("broker 1 was stopped")
    _two_are_down(run)

    run.start(2)
    run.led("unclean", 2)
    run.shrunk("quorum", [0, 2])
    run.shrunk("grow", [0], [0])
    run.until("the topic is gone", lambda: not any("-gone" in p for p in run.place.tree()))
    run.tree("broker 2 came back")
    _elections_with_one_down(run)

    run.kill(0)
    run.expire(0)
    run.until("broker 2 is the controller", lambda: run.controller == 2)
    run.led("quorum", 2)
    run.tree("the controller was killed")
    _metadata(run, 2, "alone")

    run.start(0)
    run.shrunk("quorum", [0, 2])
    run.shrunk("t", [0, 2])
    run.tree("broker 0 came back")
    run.start(1)
    run.in_sync(*ALL)
    run.tree("all came back")
    _epochs(run, {"quorum": 2, "pair": 2, "unclean": 2})
    _elections_with_all(run)
    _epochs(run, {"quorum": 1, "pair": 1, "unclean": 1})
    _another_controller(run)


def _topics(run: ClusterRun) -> None:
    run.create("quorum", [[1, 2, 0]], min_insync_replicas="2")
    run.create("lone", [[2], [1], [0]])
    run.create("pair", [[1, 2]])
    run.create("unclean", [[1, 2]], unclean_leader_election_enable="true")
    run.create("gone", [[2, 0]])
    run.create("grow", [[0, 1]])
    run.create("t", [[0, 1, 2]])
    for alias in ("quorum", "pair", "unclean"):
        run.produce_at(1, alias, batch(b"a", b"b"))
        run.replicated(alias, 0, 2, 2)
    run.produce_at(2, "lone", batch(b"a"))


def _named(run: ClusterRun, *aliases: str) -> list[dict[str, Any]]:
    return [{"name": run.name(alias)} for alias in aliases]


def _metadata(run: ClusterRun, broker_id: int, what: str) -> None:
    for version in versions("Metadata"):
        run.ask_at(
            broker_id, "Metadata", version, f"{what}: metadata",
            topics=_named(run, "quorum", "lone", "pair", "grow"), allow_auto_topic_creation=False,
        )  # fmt: skip
    for version in versions("DescribeCluster"):
        run.ask_at(broker_id, "DescribeCluster", version, f"{what}: cluster")


def _leaderless(run: ClusterRun, broker_id: int, alias: str) -> None:
    """A partition that nobody leads, asked of somebody who is not even a replica, or is one."""
    name = run.name(alias)
    for version in versions("Produce"):
        records = batch(b"x") if version >= 3 else message(b"x", magic=min(version, 1))
        run.produce_at(broker_id, alias, records, version=version, what=f"{alias} has no leader")
    for version in versions("Fetch"):
        entry = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 16}
        topic = {"topic": name, "topic_id": run.topic_id(alias), "partitions": [entry]}
        run.ask_at(
            broker_id, "Fetch", version, f"fetch {alias} without a leader",
            max_wait_ms=0, min_bytes=0, max_bytes=1 << 16, topics=[topic],
        )  # fmt: skip
    for version in versions("ListOffsets"):
        for replica in (-1, -2):
            entry = {"partition_index": 0, "timestamp": -1, "max_num_offsets": 1}
            run.ask_at(
                broker_id, "ListOffsets", version, f"offsets of {alias} as {replica}",
                replica_id=replica, topics=[{"name": name, "partitions": [entry]}],
            )  # fmt: skip
    for version in versions("OffsetForLeaderEpoch"):
        entry = {"partition": 0, "leader_epoch": 0, "current_leader_epoch": -1}
        run.ask_at(
            broker_id, "OffsetForLeaderEpoch", version, f"epochs of {alias}",
            replica_id=-1, topics=[{"topic": name, "partitions": [entry]}],
        )  # fmt: skip


def _find_coordinators(run: ClusterRun, broker_id: int, what: str) -> None:
    keys = ["a", "b", "c"]
    for version in versions("FindCoordinator"):
        for kind in (0, 1) if version else (0,):
            fields = {"coordinator_keys": keys} if version >= 4 else {"key": "a"}
            run.ask_at(
                broker_id, "FindCoordinator", version, f"{what}: coordinators of kind {kind}",
                key_type=kind, **fields,
            )  # fmt: skip


def _one_is_down(run: ClusterRun) -> None:
    for broker_id in run.place.live:
        _metadata(run, broker_id, "2 is down")
        _find_coordinators(run, broker_id, "2 is down")
        _leaderless(run, broker_id, "lone")
    run.everywhere("DescribeLogDirs", 4, topics=[{"topic": run.name("pair"), "partitions": [0]}])
    # What 2 has not got when it comes back.
    for alias in ("quorum", "pair", "unclean"):
        for version in (7, 9, 11):
            run.produce_at(1, alias, batch(b"c"), version=version, what=f"2 is down: {alias}")
    topic = {"name": run.name("large"), "num_partitions": 1, "replication_factor": 3}
    for version in versions("CreateTopics"):
        run.ask_at(0, "CreateTopics", version, "three replicas", topics=[topic], timeout_ms=5000)
    for step, assigned in (("on one that is down", [2, 0]), ("by the controller", None)):
        wish = {
            "name": run.name("grow"),
            "count": 2,
            "assignments": assigned and [{"broker_ids": assigned}],
        }
        run.ask_at(
            0, "CreatePartitions", 3, f"grown {step}",
            topics=[wish], timeout_ms=5000, validate_only=assigned is None,
        )  # fmt: skip
    wish = {"name": run.name("grow"), "count": 2, "assignments": [{"broker_ids": [0, 1]}]}
    run.ask_at(0, "CreatePartitions", 3, "grown", topics=[wish], timeout_ms=5000)
    run.led("grow", 0, 0)
    run.tree("grown while 2 is down")
    run.ask_at(
        0, "DeleteTopics", 6, "a replica is away", topics=_named(run, "gone"), timeout_ms=5000
    )
    run.known("gone", "gone", lambda s: not s)
    run.tree("to be deleted when 2 comes back")
    for version in versions("Metadata", 1):
        run.ask_at(
            1, "Metadata", version, "on its way out",
            topics=_named(run, "gone"), allow_auto_topic_creation=False,
        )  # fmt: skip
    topic = {"name": run.name("gone"), "num_partitions": 1, "replication_factor": 1}
    run.ask_at(0, "CreateTopics", 5, "while it is deleted", topics=[topic], timeout_ms=1000)
    run.ask_at(0, "DeleteTopics", 6, "once more", topics=_named(run, "gone"), timeout_ms=1000)


def _two_are_down(run: ClusterRun) -> None:
    _metadata(run, 0, "alone")
    _find_coordinators(run, 0, "alone")
    _leaderless(run, 0, "pair")
    for version in versions("Produce"):
        records = batch(b"x") if version >= 3 else message(b"x", magic=min(version, 1))
        run.produce_at(0, "quorum", records, version=version, what="too few in sync")
    run.produce_at(0, "quorum", batch(b"d"), acks=1, what="too few in sync")
    entry = {"partition": 0, "fetch_offset": 4, "partition_max_bytes": 1 << 16}
    topic = {"topic": run.name("quorum"), "partitions": [entry]}
    run.ask_at(
        0, "Fetch", 11, "under min.insync", max_wait_ms=0, min_bytes=0, max_bytes=9999,
        topics=[topic],
    )  # fmt: skip
    for kind in (PREFERRED, UNCLEAN):
        for alias in ("quorum", "pair", "lone"):
            _elect(run, 0, 2, f"alone, {alias}", kind, alias)


def _elect(
    run: ClusterRun, broker_id: int, version: int, what: str, kind: int, *aliases: str
) -> None:
    """Asks for partition 0 of topics, or for all partitions of all."""
    named = [{"topic": run.name(alias), "partitions": [0]} for alias in aliases]
    run.ask_at(
        broker_id, "ElectLeaders", version, f"elect {kind}: {what}",
        election_type=kind, topic_partitions=named or None, timeout_ms=5000,
    )  # fmt: skip


def _elections_with_one_down(run: ClusterRun) -> None:
    "Broker 1 is away; it has all that was written, 2 has not."
    for version in versions("ElectLeaders"):
        _elect(run, 0, version, "preferred one is away", PREFERRED, "quorum", "pair", "unclean")
        unknown = [{"topic": run.name("never"), "partitions": [0]},
                   {"topic": run.name("quorum"), "partitions": [0, 5, -1]}]  # fmt: skip
        run.ask_at(
            0, "ElectLeaders", version, "unknown ones", topic_partitions=unknown, timeout_ms=5000
        )
    for version in versions("ElectLeaders", 1):
        _elect(run, 0, version, "not needed", UNCLEAN, "quorum", "unclean")
    run.tree("nothing could be done")
    _elect(run, 0, 2, "out of need", UNCLEAN, "pair")
    run.led("pair", 2)
    run.tree("unclean election")
    _elect(run, 0, 2, "once more", UNCLEAN, "pair")
    _elect(run, 0, 2, "all", UNCLEAN)
    for alias in ("pair", "unclean"):
        run.produce_at(2, alias, batch(b"other", b"records"), what=f"since then: {alias}")
    run.produce_at(0, "quorum", batch(b"e"), what="two in sync")


def _elections_with_all(run: ClusterRun) -> None:
    controller = run.controller
    _elect(run, controller, 1, "one", PREFERRED, "quorum")
    run.led("quorum", 1)
    run.tree("elected one")
    _elect(run, controller, 2, "everything", PREFERRED)
    run.led("pair", 1)
    run.led("unclean", 1)
    run.tree("elected all")
    for version in versions("ElectLeaders"):
        _elect(run, controller, version, "not needed any more", PREFERRED, "quorum", "pair")
        _elect(run, controller, version, "everything again", PREFERRED)
    _elect(run, controller, 2, "nothing to do", UNCLEAN)


def _epochs(run: ClusterRun, leaders: dict[str, int]) -> None:
    """Where epochs end, and who is fenced, after leaders have changed."""
    for alias, leader in leaders.items():
        name = run.name(alias)
        run.ask_at(
            leader, "Fetch", 11, f"all of {alias}", max_wait_ms=0, min_bytes=0, max_bytes=1 << 16,
            topics=[{"topic": name, "partitions": [
                {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 16}]}],
        )  # fmt: skip
        for version in versions("OffsetForLeaderEpoch"):
            for epoch in range(7):
                entry = {"partition": 0, "leader_epoch": epoch, "current_leader_epoch": -1}
                run.ask_at(
                    leader, "OffsetForLeaderEpoch", version, f"{alias}, epoch {epoch}",
                    replica_id=-1, topics=[{"topic": name, "partitions": [entry]}],
                )  # fmt: skip
        for epoch in range(7):
            _fenced(run, leader, alias, epoch)


def _fenced(run: ClusterRun, leader: int, alias: str, epoch: int) -> None:
    "Requests that name the leader's epoch, and fetches that name the last one that was read."
    name = run.name(alias)
    current = {"current_leader_epoch": epoch}
    for version in versions("Fetch", 9):
        entry = {"partition": 0, "fetch_offset": 3, "partition_max_bytes": 1, **current}
        last = {**entry, "current_leader_epoch": -1, "last_fetched_epoch": epoch}
        for what, asked in (("current", entry), ("last fetched", last)):
            if what == "current" or version >= 12:
                topic = {"topic": name, "topic_id": run.topic_id(alias), "partitions": [asked]}
                run.ask_at(
                    leader, "Fetch", version, f"{alias}, {what} epoch {epoch}",
                    max_wait_ms=0, min_bytes=0, max_bytes=1 << 16, topics=[topic],
                )  # fmt: skip
    entry = {"partition_index": 0, "timestamp": -1, "max_num_offsets": 1, **current}
    run.ask_at(
        leader, "ListOffsets", 8, f"{alias}, current epoch {epoch}",
        replica_id=-1, topics=[{"name": name, "partitions": [entry]}],
    )  # fmt: skip
    entry = {"partition": 0, "leader_epoch": 0, **current}
    run.ask_at(
        leader, "OffsetForLeaderEpoch", 4, f"{alias}, current epoch {epoch}",
        replica_id=-1, topics=[{"topic": name, "partitions": [entry]}],
    )  # fmt: skip


def _another_controller(run: ClusterRun) -> None:
    "What broker 0 did before, it refuses now."
    _metadata(run, 0, "another controller")
    for api, fields in controllers_requests(run).items():
        version = versions(api)[-1]
        run.ask_at(0, api, version, f"not any more {api}", **fields)
    topic = {"name": run.name("new"), "num_partitions": 1, "replication_factor": 3}
    run.ask_at(2, "CreateTopics", 5, "at the new one", topics=[topic], timeout_ms=5000)
