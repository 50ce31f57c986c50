"""CreateTopics: names, counts, assignments, settings, validation only."""

import struct
from typing import Any

from compat.script import Run, Topic, case

API = "CreateTopics"


def _topic(name: str, partitions: int = 1, replicas: int = 1, **more: Any) -> dict[str, Any]:
    return {"name": name, "num_partitions": partitions, "replication_factor": replicas, **more}


def _create(run: Run, *topics: dict[str, Any], **more: Any) -> Any:
    return run.call(topics=list(topics), timeout_ms=15_000, **more)


def _configs(**values: str | None) -> list[dict[str, str | None]]:
    return [{"name": k.replace("_", "."), "value": v} for k, v in values.items()]


@case(API)
def accepted(run: Run) -> None:
    one, two = run.fresh("one"), run.fresh("two")
    _create(run, _topic(one), step="one partition")
    _create(run, _topic(two, 5), step="five partitions")
    run.settle(one, two)
    _create(run, _topic(one), step="exists")
    _create(run, _topic(one, 0), step="exists, 0 partitions")
    topics = [{"name": n} for n in (one, two)]
    run.ask("Metadata", 8, topics=topics, allow_auto_topic_creation=False)


@case(API)
def names(run: Run) -> None:
    wrong = ("", ".", "..", "a b", "a/b", "a\u00e4", "a:b", "x" * 250, "a\0b", "a,b", "a\n")
    for number, name in enumerate(wrong):
        _create(run, _topic(name), step=f"wrong name {number}")
    right = ("longest-", "...", "A_Z-", "-", "_")
    for number, start in enumerate(right):
        name = (start + run.fresh("n")).ljust(249 if number == 0 else 0, "x")
        _create(run, _topic(name), step=f"right name {number}")


@case(API)
def colliding_names(run: Run) -> None:
    "A dot and an underscore count as the same in metrics."
    base = run.fresh("c")
    _create(run, _topic(f"{base}.a_b"), step="made")
    run.settle(f"{base}.a_b")
    for number, tail in enumerate((".a.b", "_a_b", "_a.b", ".a-b")):
        _create(run, _topic(base + tail), step=f"like it {number}")
    _create(run, _topic(f"{base}.x.y"), _topic(f"{base}.x_y"), step="two in one request")


@case(API)
def internal_names(run: Run) -> None:
    for name in ("__consumer_offsets", "__transaction_state"):
        _create(run, _topic(name, 0), step=f"{name} with 0 partitions")


@case(API)
def counts(run: Run) -> None:
    for number, partitions in enumerate((0, -1, -2, -100)):
        _create(run, _topic(run.fresh(f"p{number}"), partitions), step=f"{partitions} partitions")
    for number, replicas in enumerate((0, -1, -2, 2, 3, 32767)):
        topic = _topic(run.fresh(f"r{number}"), 1, replicas)
        _create(run, topic, step=f"{replicas} replicas")
    _create(run, _topic(run.fresh("b0"), 0, 0), step="both 0")
    _create(run, _topic(run.fresh("b1"), -1, -1), step="both by default")
    _create(run, _topic(run.fresh("b2"), 0, 3), step="0 partitions, 3 replicas")


@case(API)
def assignments(run: Run) -> None:
    def given(alias: str, *replicas: tuple[int, list[int]], **more: int) -> dict[str, Any]:
        placed = [{"partition_index": i, "broker_ids": ids} for i, ids in replicas]
        partitions, factor = more.get("partitions", -1), more.get("replicas", -1)
        return _topic(run.fresh(alias), partitions, factor, assignments=placed)

    _create(run, given("a", (0, [1]), (1, [1])), step="two partitions")
    _create(run, given("b", (1, [1]), (0, [1])), step="not in order")
    _create(run, given("c", (1, [1])), step="not from 0")
    _create(run, given("d", (0, [1]), (2, [1])), step="with a hole")
    _create(run, given("e", (0, [1, 1])), step="broker twice")
    _create(run, given("g", (0, [1]), (1, [])), step="one without replicas")
    _create(run, given("h", (0, [1]), (0, [1])), step="partition twice")
    _create(run, given("i", (-1, [1])), step="partition -1")
    _create(run, given("j", (0, [1]), partitions=1), step="with a count")
    _create(run, given("k", (0, [1]), replicas=1), step="with a factor")
    names = [{"name": run.fresh("a")}]
    run.settle(run.fresh("a"))
    run.ask("Metadata", 8, topics=names, allow_auto_topic_creation=False)


@case(API)
def settings(run: Run) -> None:
    def given(alias: str, **values: str | None) -> dict[str, Any]:
        return _topic(run.fresh(alias), configs=_configs(**values))

    _create(run, given("a", cleanup_policy="compact", retention_ms="1000"), step="two")
    run.settle(run.fresh("a"))
    _create(run, given("b", no_such_thing="1"), step="unknown")
    _create(run, given("c", retention_ms="soon"), step="no number")
    _create(run, given("d", retention_ms="-2"), step="below the minimum")
    _create(run, given("e", cleanup_policy="burn"), step="none of the values")
    _create(run, given("f", cleanup_policy="compact,delete"), step="list")
    _create(run, given("g", cleanup_policy=""), step="empty list")
    _create(run, given("h", retention_ms=None), step="null")
    _create(run, given("i", min_insync_replicas="0"), step="0 in-sync replicas")
    _create(run, given("j", compression_type="zip"), step="unknown codec")
    _create(run, given("k", max_message_bytes="-1"), step="negative size")
    _create(run, given("l", unclean_leader_election_enable="maybe"), step="neither true nor false")
    _create(run, given("m", unclean_leader_election_enable="TRUE"), step="capital letters")
    _create(run, given("n", retention_ms=" 5 "), step="blanks around")
    _create(run, given("o", retention_ms="2147483648000"), step="a long")
    _create(run, given("p", segment_bytes="2147483648"), step="too large for an int")
    _create(run, given("q", min_cleanable_dirty_ratio="1.5"), step="ratio above 1")
    _create(run, given("r", min_cleanable_dirty_ratio="0.25"), step="ratio")
    _create(
        run, given("s", max_compaction_lag_ms="1", min_compaction_lag_ms="5"), step="lags crossed"
    )
    _create(run, given("t", message_timestamp_type="LogAppendTime"), step="append time")
    _create(run, given("u", retention_ms=""), step="empty number")
    twice = [{"name": "retention.ms", "value": v} for v in ("1", "2")]
    _create(run, _topic(run.fresh("v"), configs=twice), step="key twice")
    _create(run, _topic(run.fresh("w"), configs=[{"name": "", "value": "1"}]), step="empty key")
    resource = {"resource_type": 2, "resource_name": run.fresh("a"), "configuration_keys": None}
    run.ask("DescribeConfigs", 1, resources=[resource])


@case(API)
def several(run: Run) -> None:
    a, b, c = (run.fresh(n) for n in "abc")
    _create(run, _topic(a), _topic(b, 0), _topic(c, 2), step="one is wrong")
    _create(run, _topic(run.fresh("d")), _topic(run.fresh("d")), step="name twice")
    three = [_topic(run.fresh(n)) for n in ("e", "e", "f")]
    _create(run, *three, step="name twice, and another")
    _create(run, _topic(run.fresh("g"), 0), _topic(run.fresh("g")), step="twice, one wrong")
    _create(run, step="nothing")


@case(API, (1, 7))
def validation_only(run: Run) -> None:
    name = run.fresh("v")
    _create(run, _topic(name, 3), validate_only=True, step="right")
    _create(run, _topic(name, 0), validate_only=True, step="wrong count")
    _create(run, _topic(name, 1, 5), validate_only=True, step="wrong factor")
    _create(run, _topic("a b"), validate_only=True, step="wrong name")
    _create(run, _topic(run.name("filled")), validate_only=True, step="exists")
    bad = _topic(name, configs=_configs(retention_ms="x"))
    _create(run, bad, validate_only=True, step="wrong setting")
    _create(run, _topic(name), _topic(name), validate_only=True, step="twice")
    topics = [{"name": name}]
    run.ask("Metadata", 8, topics=topics, allow_auto_topic_creation=False, step="is it there")


@case(API, (5, 7))
def what_is_told(run: Run) -> None:
    "From version 5 the answer has counts and settings, from 7 the topic id."
    made = _create(run, _topic(run.fresh("a"), 2, configs=_configs(retention_ms="7")), step="made")
    run.settle(run.fresh("a"))
    if run.version >= 7 and made is not None:
        topics = [{"topic_id": bytes(made.topics[0].topic_id), "name": None}]
        run.ask("Metadata", 12, topics=topics, allow_auto_topic_creation=False, step="by that id")
    _create(run, _topic(run.fresh("b"), 2), validate_only=True, step="validated")


@case(API, topics={"t": Topic()})
def again_after_deletion(run: Run) -> None:
    "Kafka 3.9 says 36 for a moment more, while the old topic is being taken away."
    name = run.name("t")
    run.ask("DeleteTopics", 3, topic_names=[name], timeout_ms=10_000)
    run.gone("t")
    fields = {"topics": [_topic(name, 4)], "timeout_ms": 15_000}
    run.ask_until(lambda a: a.topics[0].error_code != 36, API, run.version, **fields)
    run.settle(name)
    run.ask("Metadata", 8, topics=[{"name": name}], allow_auto_topic_creation=False)


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\xff\xff\xff\x0f", step="four bytes", link="2")
    none = b"\0" if run.version >= 5 else struct.pack(">i", -1)
    run.send_body(API, run.version, none + struct.pack(">ib", 1000, 0), step="null list", link="3")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"tail", topics=[_topic(run.fresh("t"))], timeout_ms=15_000)
