"""Records that every client test sends and compares in full."""

import random
import time
from dataclasses import dataclass

STEP_MS = 1000
"""Distance between the timestamps of neighbouring records of a corpus, ms."""

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One record as sent and as it must come back."""

    partition: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def base_timestamp() -> int:
    """An hour ago in ms: recent enough for time retention, old enough to differ from the time of
    arrival.
    """
    return int(time.time()) * 1000 - 3_600_000


def corpus(seed: int, partitions: int, count: int, *, headers: bool = True) -> list[Item]:
    """`count` records dealt to the partitions in turn, timestamps rising by STEP_MS.

    Among them: no key, empty key, null value, empty value, header with null and empty value,
    repeated header names, text outside ASCII, compressible and random bytes up to 40 KiB.
    """
    chance = random.Random(seed)
    base = base_timestamp()
    items = []
    for number in range(count):
        key = chance.choice((None, b"", b"k%d" % number, "κλειδί".encode()))
        value = _value(chance, number)
        items.append(
            Item(
                number % partitions,
                base + number * STEP_MS,
                key,
                value,
                _headers(chance) if headers else (),
            )
        )
    return items


def _value(chance: random.Random, number: int) -> bytes | None:
    shape = number % 8
    if shape == 3:
        return None
    if shape == 5:
        return b""
    if shape == 6:
        return chance.randbytes(chance.randrange(1, 40_000))
    if shape == 7:
        return b"compressible " * chance.randrange(1, 3000)
    return b"value %d %s" % (number, chance.randbytes(chance.randrange(50)))


def _headers(chance: random.Random) -> Headers:
    return chance.choice(
        (
            (),
            (("trace", b"\x00\x01\xff"),),
            (("a", b"1"), ("a", b"2"), ("ключ", "значение".encode())),
            (("empty", b""), ("null", None)),
        )
    )


def by_partition(items: list[Item]) -> dict[int, list[Item]]:
    """The same records grouped, order kept."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.partition, []).append(item)
    return groups
