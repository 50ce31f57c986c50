"""Share groups (KIP-932) with the share consumer of confluent-kafka."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import AcknowledgeType, Message, ShareConsumer

from protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.corpus import Item, base_timestamp
from tests.kit.wire import Wire

NewName = Callable[[], str]
DEADLINE = 30.0
GROUP = 32
ACCEPT, RELEASE, REJECT = (
    AcknowledgeType.ACCEPT,
    AcknowledgeType.RELEASE,
    AcknowledgeType.REJECT,
)


class Share:
    """A topic, a share group that begins at its beginning, and consumers that are closed."""

    def __init__(self, bootstrap: str, topic: str, stack: ExitStack) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.stack = stack
        self.group = f"share-{topic}"
        Confluent(bootstrap).create_topic(topic, 1)
        wanted = [AlterableConfig("share.auto.offset.reset", 0, "earliest")]
        resources = [AlterConfigsResource(GROUP, self.group, wanted)]
        with Wire(bootstrap) as wire:
            answer = wire.call(IncrementalAlterConfigsRequest(resources), 1)
        assert answer.responses[0].error_code == 0, answer

    def fill(self, first: int, count: int) -> None:
        numbers = range(first, first + count)
        items = [Item(0, base_timestamp(), None, b"%d" % n) for n in numbers]
        Confluent(self.bootstrap).produce(self.topic, items)

    def consumer(self, mode: str = "implicit") -> Any:
        made = ShareConsumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "share.acknowledgement.mode": mode,
                "log_level": 0,
            }
        )
        self.stack.callback(made.close)
        made.subscribe([self.topic])
        return made


@pytest.fixture
def share(bootstrap: str, new_name: NewName) -> Iterator[Share]:
    with ExitStack() as stack:
        yield Share(bootstrap, new_name(), stack)


def poll(consumer: Any, end: float) -> list[Message]:
    """What one poll gives; fails when time is over."""
    assert time.monotonic() < end, "nothing (more) comes"
    messages = list(consumer.poll(0.3))
    assert all(message.error() is None for message in messages), messages
    return messages


def number_of(message: Message) -> int:
    value = message.value()
    assert isinstance(value, bytes)
    return int(value)


def test_members_share_the_records_of_a_partition(share: Share) -> None:
    """Every record goes to one of them, and is gone when it was accepted."""
    consumers = [share.consumer(), share.consumer()]
    seen: Counter[int] = Counter()
    readers: set[int] = set()
    written, end = 0, time.monotonic() + DEADLINE
    while len(readers) < 2 or sum(seen.values()) < written:
        if sum(seen.values()) == written:
            share.fill(written, 40)
            written += 40
        for number, consumer in enumerate(consumers):
            for message in poll(consumer, end):
                seen[number_of(message)] += 1
                readers.add(number)
    for consumer in consumers:
        assert not [e for e in consumer.commit_sync(10).values() if e is not None]
    assert seen == dict.fromkeys(range(written), 1)
    third = share.consumer()
    share.fill(written, 1)
    end = time.monotonic() + DEADLINE
    got: list[int] = []
    while not got:
        got = [number_of(message) for message in poll(third, end)]
    assert got == [written]


def test_records_are_accepted_released_and_rejected(share: Share) -> None:
    share.fill(0, 9)
    consumer = share.consumer("explicit")
    handed: dict[int, list[int]] = {}
    end = time.monotonic() + DEADLINE
    # one in three is accepted, rejected, or released until it was handed out three times
    while sum(len(counts) for counts in handed.values()) < 3 + 3 + 3 * 3:
        for message in poll(consumer, end):
            number = number_of(message)
            counts = handed.setdefault(number, [])
            counts.append(message.delivery_count())
            again = number % 3 == 2 and len(counts) < 3
            consumer.acknowledge(
                message, (ACCEPT, REJECT, RELEASE if again else ACCEPT)[number % 3]
            )
        assert not [e for e in consumer.commit_sync(10).values() if e is not None]
    assert handed == {n: [1, 2, 3] if n % 3 == 2 else [1] for n in range(9)}
    share.fill(9, 1)
    got: list[int] = []
    while not got:
        messages = poll(consumer, end)
        got = [number_of(message) for message in messages]
        for message in messages:
            consumer.acknowledge(message)
    assert got == [9]


def test_what_a_member_keeps_too_long_goes_to_another(share: Share) -> None:
    """The lock of a record runs out (here after 1.5 s), also when its member lives on."""
    share.fill(0, 2)
    slow = share.consumer("explicit")
    end = time.monotonic() + DEADLINE
    kept: list[Message] = []
    while not kept:
        kept = poll(slow, end)
    other = share.consumer("explicit")
    got: dict[int, int | None] = {}
    while len(got) < 2:
        for message in poll(other, end):
            got[number_of(message)] = message.delivery_count()
            other.acknowledge(message)
        other.commit_sync(10)
    assert {number_of(message) for message in kept} <= set(got) == {0, 1}
    assert all(got[number_of(message)] == 2 for message in kept)
