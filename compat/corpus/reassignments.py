"""AlterPartitionReassignments, ListPartitionReassignments and AlterReplicaLogDirs, as far as one
broker with one log directory has something to say."""

from typing import Any

from compat.reference import NODE_ID
from compat.script import Run, Topic, case

NOBODY = 99


def _wanted(*topics: tuple[str, dict[int, list[int] | None]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "partitions": [
                {"partition_index": index, "replicas": replicas}
                for index, replicas in partitions.items()
            ],
        }
        for name, partitions in topics
    ]


@case("AlterPartitionReassignments", topics={"t": Topic(2), "u": Topic()})
def where_they_are(run: Run) -> None:
    t, u = run.name("t"), run.name("u")

    def go(step: str, *topics: tuple[str, dict[int, list[int] | None]]) -> None:
        run.call(topics=_wanted(*topics), step=step)

    go("one", (t, {0: [NODE_ID]}))
    go("several", (t, {0: [NODE_ID], 1: [NODE_ID]}), (u, {0: [NODE_ID]}))
    go("nothing")
    go("no partitions", (t, {}))


@case("AlterPartitionReassignments", topics={"t": Topic(2)})
def refused(run: Run) -> None:
    t, never = run.name("t"), run.fresh("never")

    def go(step: str, *topics: tuple[str, dict[int, list[int] | None]]) -> None:
        run.call(topics=_wanted(*topics), step=step)

    go("nobody", (t, {0: [NOBODY]}))
    go("somebody and nobody", (t, {0: [NODE_ID, NOBODY], 1: [NODE_ID]}))
    go("no replicas", (t, {0: []}))
    go("twice the same", (t, {0: [NODE_ID, NODE_ID]}))
    go("negative", (t, {0: [-1]}))
    go("nothing to call off", (t, {0: None}))
    go("unknown partition", (t, {7: [NODE_ID]}))
    go("unknown partition to nobody", (t, {7: [NOBODY]}))
    go("unknown partition without replicas", (t, {7: []}))
    go("unknown partition called off", (t, {7: None}))
    go("negative partition", (t, {-1: [NODE_ID]}))
    go("unknown topic", (never, {0: [NODE_ID]}))
    go("unknown topic called off", (never, {0: None}))
    go("empty name", ("", {0: [NODE_ID]}))
    go("good and bad", (t, {0: [NODE_ID], 1: [NOBODY]}), (never, {0: [NODE_ID]}))


@case("AlterPartitionReassignments", (1, 1), topics={"t": Topic()})
def the_number_of_replicas_stays(run: Run) -> None:
    t = run.name("t")
    for step, replicas in (("as it is", [NODE_ID]), ("more", [NODE_ID, NOBODY]), ("none", [])):
        run.call(
            allow_replication_factor_change=False, topics=_wanted((t, {0: replicas})), step=step
        )


@case("ListPartitionReassignments", topics={"t": Topic(2)})
def nothing_moves(run: Run) -> None:
    t, never = run.name("t"), run.fresh("never")

    def go(step: str, *topics: tuple[str, list[int]]) -> None:
        wanted = [{"name": name, "partition_indexes": indexes} for name, indexes in topics]
        run.call(topics=wanted, step=step)

    go("two", (t, [0, 1]))
    go("unknown partition", (t, [0, 9, -1]))
    go("unknown topic", (never, [0]), (t, [0]))
    go("no partitions", (t, []))
    go("no topics")
    run.call(topics=None, step="all")


@case("AlterReplicaLogDirs", topics={"t": Topic(2), "u": Topic()})
def directories(run: Run) -> None:
    t, u, never = run.name("t"), run.name("u"), run.fresh("never")
    found: list[str] = []

    def only(answer: Any) -> None:
        found.extend(result.log_dir for result in answer.results)
        answer.results.clear()

    run.ask("DescribeLogDirs", 1, topics=[], step="where", keep=only)
    here = found[0] if found else "/"

    def go(step: str, *dirs: tuple[str, dict[str, list[int]]]) -> None:
        run.call(
            dirs=[
                {"path": path, "topics": [{"name": n, "partitions": p} for n, p in topics.items()]}
                for path, topics in dirs
            ],
            step=step,
        )

    go("where it is", (here, {t: [0]}))
    go("several", (here, {t: [1, 0], u: [0]}))
    go("unknown directory", ("/no/such/directory", {t: [0]}))
    go("unknown directory and topic", ("/no/such/directory", {never: [0]}))
    go("relative", ("data", {t: [0]}))
    go("no directory", ("", {t: [0]}))
    go("unknown topic", (here, {never: [0]}))
    go("unknown partition", (here, {t: [9, 0, -1]}))
    go("long name", (here, {"n" * 220: [0]}))
    go("bad name", (here, {"a/b": [0]}))
    go("two directories", (here, {t: [0]}), ("/no/such/directory", {t: [0, 1]}))
    go("no topics", (here, {}))
    go("no partitions", (here, {t: []}))
    go("nothing")
