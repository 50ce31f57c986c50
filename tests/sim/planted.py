"""Bugs planted into the broker, to see that the simulation finds each of them.

Each is one small change of one function, such as a slip of a programmer would be. The seed beside
it is one whose run finds it, as long as the broker's traffic stays the same.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

from broker import follower_fetch
from broker.cluster.layout import Leadership
from broker.cluster.view import OFFSETS_TOPIC
from broker.controller import decide, moves, reassign
from broker.coordinator import Coordinator
from broker.handlers import produce
from broker.partition import Partition
from broker.replicas import ReplicaManager
from broker.transactions import markers
from protocol.errors import ErrorCode
from storage import producers

Patch = tuple[object, str, Any]


class Planted(NamedTuple):
    """`patches()`: what is put in the place of what; `seed`: of a run that finds it."""

    patches: Callable[[], list[Patch]]
    seed: int


def _leader_fencing() -> list[Patch]:
    """Clients and followers of another leader epoch are served all the same."""
    replica = ReplicaManager.replica
    return [
        (
            ReplicaManager,
            "replica",
            lambda self, topic, index, current_leader_epoch=-1: replica(self, topic, index),
        )
    ]


def _high_watermark() -> list[Patch]:
    """One more than all in-sync replicas have."""
    replicated = Partition._replicated

    def one_more(self: Partition, end: int, now_ms: int) -> int:
        return min(replicated(self, end, now_ms) + 1, end)

    return [(Partition, "_replicated", one_more)]


def _truncation() -> list[Patch]:
    """The leader does not tell a follower that its log went another way."""
    return [(follower_fetch, "divergence", lambda asked, log: None)]


def _isr() -> list[Patch]:
    """Followers that lag stay in the ISR."""
    return [(Partition, "without_laggards", lambda self, now_ms: None)]


def _epoch() -> list[Patch]:
    """An election does not begin a leader epoch."""
    settled = decide._settled

    def same_epoch(*arguments: Any) -> Leadership | None:
        changed = settled(*arguments)
        return changed and changed._replace(leader_epoch=arguments[3].leader_epoch)

    return [(decide, "_settled", same_epoch)]


def _isr_election() -> list[Patch]:
    """A leader is elected that was not in sync."""

    def anybody(state: Any, key: Any, partition: Any, now: Leadership, *_: Any) -> Any:
        live = tuple(b for b in partition.replicas if state.online(b, key))
        if not live or now.leader in live:
            return None
        return Leadership(live[0], now.leader_epoch + 1, live, state.epoch, now.recovering)

    return [(decide, "_settled", anybody)]


def _acks() -> list[Patch]:
    """acks=all does not wait for the followers."""
    return [(produce, "_waits", lambda partition, appended: False)]


def _duplicates() -> list[Patch]:
    """A batch that is sent again is not recognised, and appended again."""
    return [
        (producers.ProducerEntry, "duplicate_of", lambda self, *_: None),
        (producers, "_check_sequence", lambda *_: None),
    ]


def _markers() -> list[Patch]:
    """Some markers are said to be written, and are not."""
    write = markers._Writing._write

    def lost(self: Any, key: Any) -> None:
        if self._marker.producer_epoch % 3 == 1 and key[0] != OFFSETS_TOPIC:
            self.settle(key, ErrorCode.NONE)
        else:
            write(self, key)

    return [(markers._Writing, "_write", lost)]


def _offsets() -> list[Patch]:
    """Offsets of a transaction are committed whether or not it is."""
    write = Coordinator.write_marker

    def always(self: Any, *arguments: Any, committed: bool, **more: Any) -> Any:
        return write(self, *arguments, committed=True, **more)

    return [(Coordinator, "write_marker", always)]


def _moves() -> list[Patch]:
    """Moves end before the new replicas have everything."""

    def led(self: Any, key: Any, before: Any) -> Leadership | None:
        return reassign.led_by_target(self._state, key)

    return [(reassign, "reached", lambda *_: True), (moves.Moves, "_led_by_target", led)]


BUGS: dict[str, Planted] = {
    "leader epochs not fenced": Planted(_leader_fencing, 11),
    "high watermark off by one": Planted(_high_watermark, 1),
    "truncation skipped": Planted(_truncation, 1),
    "ISR not shrunk": Planted(_isr, 5),
    "epoch not bumped": Planted(_epoch, 1),
    "marker lost": Planted(_markers, 4),
    "leader out of sync elected": Planted(_isr_election, 72),
    "acks=all does not wait": Planted(_acks, 1),
    "duplicates not recognised": Planted(_duplicates, 1),
    "offsets of aborted transactions": Planted(_offsets, 11),
    "moves end too soon": Planted(_moves, 30),
}


def _check_fit(old: Any, new: Any) -> None:
    """Raises TypeError where the new function does not take what the old one is given: a run that
    fails for that has found nothing."""
    parameters = inspect.signature(old).parameters.values()
    inspect.signature(new).bind(
        *(p for p in parameters if p.kind is not p.KEYWORD_ONLY),
        **{p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY},
    )


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The broker with that bug."""
    with ExitStack() as stack:
        for target, attribute, value in BUGS[name].patches():
            _check_fit(getattr(target, attribute), value)
            stack.enter_context(mock.patch.object(target, attribute, value))
        yield
