"""The repertoire of kafka-python 1.4.7 and 2.0.2: run with the pinned package on the path and a
bootstrap address as the argument.

1.4.7 chooses its request versions from the broker's release, which it is told or works out from
ApiVersions; being told old releases (`api_version`) makes it speak Produce and Fetch versions
from 0 with message formats 0 and 1. Nothing in the client is changed, but for one import shim:
both carry a copy of six whose lazy `moves` module Python 3.12 and later cannot import.
"""

import os
import sys
import threading
import time
import traceback

if sys.version_info >= (3, 12):
    import six
    import six.moves

    sys.modules["kafka.vendor.six"] = six
    sys.modules["kafka.vendor.six.moves"] = six.moves

import kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import (
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    NewPartitions,
    NewTopic,
)

RELEASES = {
    # release told to the client -> what it then uses
    (0, 8, 2): "Produce 0, Fetch 0, format 0",
    (0, 9): "Produce 1, Fetch 1, format 0",
    (0, 10): "Produce 2, Fetch 2, format 1",
    (0, 10, 1): "Fetch 3, ListOffsets 1",
    # three numbers: its fetcher asks for >= (0, 11, 0)
    (0, 11, 0): "Produce 3, Fetch 4, format 2",
    (1, 0): "Produce 5",
    (2, 1, 0): "Produce 7",
    None: "as found by ApiVersions",
}
DEADLINE = 20
ZSTD_SINCE = (2, 1, 0)
codecs = ["none", "gzip", "snappy", "lz4"]
if kafka.__version__.startswith("2."):
    codecs.append("zstd")

failures = 0
admins = {}
stamp = f"{os.getpid()}-{int(time.time())}"


def feature(name, work, *arguments):
    """Run one feature and print its line; the first error's text goes with it."""
    global failures
    try:
        said = work(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this feature's outcome
        failures += 1
        traceback.print_exc(file=sys.stdout)
        print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
    else:
        print(f"missing {name}: {said}" if said else f"ok {name}", flush=True)


def check(got, expected):
    if got != expected:
        raise AssertionError(f"got {got!r:.300}, expected {expected!r:.300}")


def until(get, expected):
    """Brokers hear of changes one after the other."""
    end = time.time() + DEADLINE
    while (got := get()) != expected:
        if time.time() > end:
            check(got, expected)
        time.sleep(0.02)


class Session:
    def __init__(self, bootstrap, release):
        self.common = {"bootstrap_servers": bootstrap, "api_version": release}
        self.bootstrap = bootstrap
        self.release = release

    def producer(self, **more):
        return KafkaProducer(max_block_ms=DEADLINE * 1000, **dict(self.common, **more))

    def consumer(self, **more):
        settings = {"group_id": None, "fetch_max_wait_ms": 100, "auto_offset_reset": "earliest"}
        return KafkaConsumer(**dict(self.common, **dict(settings, **more)))


def records(codec, release):
    """(key, value, timestamp, headers): as much as the message format of the release can carry."""
    base = int(time.time()) * 1000 - 3600000
    made = []
    for n in range(40):
        value = (b"value %d " % n) * (1 + n * 7) if n % 6 else b""
        # a null value needs a key
        if n % 6 == 5:
            value = None
        key = None if n % 3 == 0 and value is not None else b"key-%d" % n
        headers = [("name", b"\x00\xff"), ("name", b"")] if has_headers(release) and n % 4 else []
        made.append((key, value, base + n * 1000, headers))
    return made


def has_headers(release):
    return release is None or release >= (0, 11)


def has_timestamps(release):
    return release is None or release >= (0, 10)


def has_time_search(release):
    return release is None or release >= (0, 10, 1)


def make_topic(session, name, partitions=1, configs=None):
    # one for all: working out the broker's release takes it 0.4 s
    admin = admins.get(session.bootstrap)
    if admin is None:
        admin = admins[session.bootstrap] = KafkaAdminClient(bootstrap_servers=session.bootstrap)
    admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs or {})])


def send(session, topic, codec, made):
    producer = session.producer(
        compression_type=None if codec == "none" else codec,
        linger_ms=20,
        acks=1,
        retries=3,
        max_in_flight_requests_per_connection=1,
    )
    try:
        waiting = []
        for key, value, timestamp, headers in made:
            more = {"timestamp_ms": timestamp} if has_timestamps(session.release) else {}
            if headers:
                more["headers"] = headers
            waiting.append(producer.send(topic, value, key=key, partition=0, **more))
        producer.flush(DEADLINE)
        return [future.get(DEADLINE).offset for future in waiting]
    finally:
        producer.close(DEADLINE)


def read(session, topic, start, count, **more):
    consumer = session.consumer(**more)
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        if start is None:
            consumer.seek_to_beginning(place)
        else:
            consumer.seek(place, start)
        got = []
        end = time.monotonic() + DEADLINE
        while len(got) < count:
            if time.monotonic() > end:
                raise AssertionError(f"{len(got)} of {count} records")
            for batch in consumer.poll(500).values():
                got += batch
        return got
    finally:
        consumer.close()


def as_sent(session, got):
    timed = has_timestamps(session.release)
    return [
        (r.key, r.value, r.timestamp if timed else 0, list(r.headers) if r.headers else [])
        for r in got
    ]


def produce_and_consume(session, codec):
    topic = "old-{}-{}-{}".format(codec, "-".join(map(str, session.release or ("auto",))), stamp)
    make_topic(session, topic)
    made = records(codec, session.release)
    expected = [r if has_timestamps(session.release) else (r[0], r[1], 0, r[3]) for r in made]
    check(send(session, topic, codec, made), list(range(40)))
    check(as_sent(session, read(session, topic, None, 40)), expected)
    check(as_sent(session, read(session, topic, 17, 23)), expected[17:])
    consumer = session.consumer()
    place = TopicPartition(topic, 0)
    try:
        if has_time_search(session.release):
            check(consumer.beginning_offsets([place]), {place: 0})
            check(consumer.end_offsets([place]), {place: 40})
            moment = made[25][2] - 1
            found = consumer.offsets_for_times({place: moment})[place]
            check((found.offset, found.timestamp), (25, made[25][2]))
            check(consumer.offsets_for_times({place: made[39][2] + 1}), {place: None})
            late = read(session, topic, found.offset, 15)
            check(as_sent(session, late), expected[25:])
        else:
            consumer.assign([place])
            consumer.seek_to_end(place)
            check(consumer.position(place), 40)
    finally:
        consumer.close()
    return None


def across_formats(session, codec):
    """Written in the newest format this client has, read by one that is told an old release."""
    topic = f"across-{codec}-{stamp}"
    make_topic(session, topic)
    made = [(key, value, timestamp, []) for key, value, timestamp, _ in records(codec, (0, 10))]
    send(session, topic, codec, made)
    for release in ((0, 8, 2), (0, 10), (0, 11, 0)):
        old = Session(session.bootstrap, release)
        expected = [r if has_timestamps(release) else (r[0], r[1], 0, r[3]) for r in made]
        check(as_sent(old, read(old, topic, None, 40)), expected)
        check(as_sent(old, read(old, topic, 33, 7)), expected[33:])


def large_record(session, codec):
    topic = f"large-{codec}-{stamp}"
    make_topic(session, topic)
    value = os.urandom(50000) * 20
    check(send(session, topic, codec, [(b"k", value, 1 + int(time.time()) * 1000, [])]), [0])
    (got,) = read(session, topic, None, 1, max_partition_fetch_bytes=2000000)
    check(got.value == value, True)


def many_partitions(session):
    topic = f"many-{stamp}"
    make_topic(session, topic, 40)
    producer = session.producer(linger_ms=5, acks="all")
    for n in range(400):
        producer.send(topic, b"v%d" % n, partition=n % 40)
    producer.flush(DEADLINE)
    producer.close(DEADLINE)
    consumer = session.consumer()
    check(consumer.partitions_for_topic(topic), set(range(40)))
    consumer.assign([TopicPartition(topic, p) for p in range(40)])
    got = {}
    end = time.monotonic() + DEADLINE
    while sum(map(len, got.values())) < 400 and time.monotonic() < end:
        for place, batch in consumer.poll(500).items():
            got.setdefault(place.partition, []).extend(r.value for r in batch)
    consumer.close()
    check(got, {p: [b"v%d" % n for n in range(p, 400, 40)] for p in range(40)})


def no_acknowledgement(session):
    topic = f"acks0-{stamp}"
    make_topic(session, topic)
    producer = session.producer(acks=0)
    for n in range(30):
        producer.send(topic, b"v%d" % n, partition=0)
    producer.flush(DEADLINE)
    producer.close(DEADLINE)
    got = [record.value for record in read(session, topic, None, 30)]
    check(got, [b"v%d" % n for n in range(30)])


def auto_created(session):
    topic = f"auto-{stamp}"
    producer = session.producer()
    producer.send(topic, b"first").get(DEADLINE)
    producer.close(DEADLINE)
    consumer = session.consumer()
    check(topic in consumer.topics(), True)
    consumer.close()


def fresh(session, ask):
    """What a consumer says that knows nothing yet."""
    consumer = session.consumer()
    try:
        return ask(consumer)
    finally:
        consumer.close()


def admin_repertoire(session):
    topic = f"admin-{stamp}"
    admin = KafkaAdminClient(bootstrap_servers=session.bootstrap)
    consumer = session.consumer()
    try:
        admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"retention.ms": "86400000"})])
        until(lambda: consumer.partitions_for_topic(topic), {0, 1})
        until(lambda: config(admin, topic, "retention.ms"), "86400000")
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "7200000"})
        admin.alter_configs([resource])
        until(lambda: config(admin, topic, "retention.ms"), "7200000")
        admin.create_partitions({topic: NewPartitions(5)})
        until(lambda: fresh(session, lambda c: c.partitions_for_topic(topic)), set(range(5)))
        admin.delete_topics([topic])
        until(lambda: fresh(session, lambda c: topic in c.topics()), False)
    finally:
        consumer.close()
        admin.close()


class GroupMember(threading.Thread):
    """A consumer in a group, in a thread of its own: these clients block while they join."""

    def __init__(self, session, group, topic, **more):
        super().__init__(daemon=True)
        settings = {"enable_auto_commit": False, "session_timeout_ms": 6000}
        settings["heartbeat_interval_ms"] = 200
        self.consumer = session.consumer(group_id=group, **dict(settings, **more))
        self.consumer.subscribe([topic])
        self.changed = threading.Condition()
        self.got = []
        self.owned = set()
        self.ending = False
        self.failure = None
        self.start()

    def run(self):
        try:
            while not self.ending:
                for batch in self.consumer.poll(50).values():
                    self.got += [(r.partition, r.offset, r.value) for r in batch]
                    self.consumer.commit()
                self.owned = {place.partition for place in self.consumer.assignment()}
                with self.changed:
                    self.changed.notify_all()
            self.consumer.close()
        except Exception as error:  # noqa: BLE001 - raised again by until()
            self.failure = error

    def until(self, condition):
        end = time.monotonic() + DEADLINE
        with self.changed:
            while not condition():
                if self.failure is not None:
                    raise self.failure
                if time.monotonic() > end:
                    raise AssertionError(f"owns {self.owned}, {len(self.got)} records")
                self.changed.wait(0.2)

    def leave(self):
        self.ending = True
        self.join(DEADLINE)
        if self.failure is not None:
            raise self.failure


def group(session):
    """Two members share a topic, one leaves, another goes on from the last commit."""
    topic = "group-{}-{}".format("-".join(map(str, session.release or ("auto",))), stamp)
    make_topic(session, topic, 4)
    fill(session, topic, 0, 40)
    first = GroupMember(session, f"of-{topic}", topic)
    first.until(lambda: len(first.got) == 40 and first.owned == {0, 1, 2, 3})
    second = GroupMember(session, f"of-{topic}", topic)
    second.until(lambda: len(second.owned) == 2 and len(first.owned) == 2)
    check(first.owned | second.owned, {0, 1, 2, 3})
    fill(session, topic, 40, 80)
    second.until(lambda: len(first.got) + len(second.got) == 80)
    second.leave()
    first.until(lambda: first.owned == {0, 1, 2, 3})
    fill(session, topic, 80, 100)
    first.until(lambda: len(first.got) + len(second.got) == 100)
    first.leave()
    values = sorted(int(value) for _, _, value in first.got + second.got)
    check(values, list(range(100)))
    third = GroupMember(session, f"of-{topic}", topic)
    fill(session, topic, 100, 104)
    third.until(lambda: len(third.got) == 4)
    third.leave()
    check(sorted(int(value) for _, _, value in third.got), [100, 101, 102, 103])


def group_admin(session):
    topic = f"group-admin-{stamp}"
    name = f"of-{topic}"
    make_topic(session, topic, 4)
    fill(session, topic, 0, 40)
    admin = KafkaAdminClient(bootstrap_servers=session.bootstrap)
    try:
        member = GroupMember(session, name, topic)
        member.until(lambda: len(member.got) == 40)
        (described,) = admin.describe_consumer_groups([name])
        # 1.4.7 gives the bare answer: error, group, state, protocol type, protocol, members
        check((described[2], len(described[5])), ("Stable", 1))
        check((name, "consumer") in admin.list_consumer_groups(), True)
        offsets = {
            p.partition: o.offset for p, o in admin.list_consumer_group_offsets(name).items()
        }
        check(offsets, dict.fromkeys(range(4), 10))
        member.leave()
        if not hasattr(admin, "delete_consumer_groups"):
            return None
        check([error.errno for _, error in admin.delete_consumer_groups([name])], [0])
        check((name, "consumer") in admin.list_consumer_groups(), False)
    finally:
        admin.close()


def fill(session, topic, first, end):
    producer = session.producer(acks="all", linger_ms=5)
    for number in range(first, end):
        producer.send(topic, b"%d" % number, partition=number % 4)
    producer.flush(DEADLINE)
    producer.close(DEADLINE)


def config(admin, topic, name):
    answers = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    answer = answers[0] if isinstance(answers, list) else answers
    ((error, _, _, resource, entries),) = answer.resources
    check((error, resource), (0, topic))
    return {entry[0]: entry[1] for entry in entries}[name]


def main():
    bootstrap = sys.argv[1]
    for release in RELEASES:
        if release is not None and release >= (1, 0) and "zstd" not in codecs:
            continue  # 1.4.7 has no versions above those of 0.11
        for codec in codecs:
            name = f"{codec}, {RELEASES[release]}"
            if codec == "zstd" and release is not None and release < ZSTD_SINCE:
                continue
            session = Session(bootstrap, release)
            feature(name, produce_and_consume, session, codec)
    newest = Session(bootstrap, None)
    for codec in codecs:
        if codec != "zstd":
            feature(f"old readers of new format, {codec}", across_formats, newest, codec)
        feature(f"large record, {codec}", large_record, newest, codec)
    feature("many partitions", many_partitions, newest)
    feature("acks 0", no_acknowledgement, newest)
    feature("topic made by producing", auto_created, newest)
    feature("admin", admin_repertoire, newest)
    for release in ((0, 9), (0, 10, 1), (0, 11, 0), None):
        feature(f"group, {RELEASES[release]}", group, Session(bootstrap, release))
    feature("group admin", group_admin, newest)
    feature("idempotent producer", lambda: "this release has none")
    feature("incremental configs", lambda: "this release has none")
    sys.exit(1 if failures else 0)


main()
