"""Partitions on their way to other replicas (KIP-455). Pure.

While a partition moves, its assignment is the target's replicas and then those of the origin that
are not among them; `adding` are those that the origin lacks, `removing` those that the target
lacks. So both can be told from the topic's node alone, at any time, by any controller.

A move has two phases. A: the new replicas are told to follow, under a new leader epoch. B, once all
of the target is in the ISR: the leader is one of the target, under a new epoch; then the others
leave the ISR and are deleted, and last the node names the target alone. Another target, or none
(back to the origin), may be asked for meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from broker.cluster.layout import Assignment, Leadership
from broker.controller.state import NO_LEADER, Key, Partition, State
from broker.controller.topics import Refusal
from protocol.errors import ErrorCode


class Target(NamedTuple):
    """The replicas that a partition shall have; None ends a move by going back to its origin."""

    key: Key
    replicas: tuple[int, ...] | None


class Rules(NamedTuple):
    """How strictly targets are looked at.

    `alive`: what is added must be alive (the old znode's are taken as they are, and wait).
    `fixed_count`: the number of replicas stays (KIP-860). `known_first`: a partition must be there
    whatever else is wrong, as from version 1 of the request on.
    """

    alive: bool = True
    fixed_count: bool = False
    known_first: bool = False


BY_REQUEST = Rules()
BY_ZNODE = Rules(alive=False)
NOTHING_THERE = Assignment(())


def moving(assignment: Assignment) -> bool:
    """Whether a move is under way."""
    return bool(assignment.adding or assignment.removing)


def origin(assignment: Assignment) -> tuple[int, ...]:
    """The replicas before the move."""
    return tuple(b for b in assignment.replicas if b not in assignment.adding)


def target(assignment: Assignment) -> tuple[int, ...]:
    """The replicas after the move."""
    return tuple(b for b in assignment.replicas if b not in assignment.removing)


def toward(assignment: Assignment, replicas: Sequence[int]) -> Assignment:
    """On the way from the same origin to these replicas."""
    before = origin(assignment)
    everybody = (*replicas, *(b for b in before if b not in replicas))
    return Assignment(
        everybody,
        tuple(b for b in everybody if b not in before),
        tuple(b for b in everybody if b not in replicas),
    )


def plan(
    state: State, targets: Iterable[Target], rules: Rules = BY_REQUEST
) -> tuple[dict[Key, Assignment], dict[Key, Refusal]]:
    """The assignments that follow, and why the others are refused."""
    planned: dict[Key, Assignment] = {}
    refused: dict[Key, Refusal] = {}
    for key, replicas in targets:
        partition = state.partition(key)
        now = NOTHING_THERE if partition is None else partition.assignment
        gone = partition is None or key[0] in state.deletions
        found: Refusal | None
        if gone and rules.known_first:
            found = _unknown(key)
        elif replicas is None:
            found = None if moving(now) else Refusal(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
        else:
            found = _unacceptable(state, now, replicas, rules)
        if found is None and gone:
            found = _unknown(key)
        if found is None:
            assert partition is not None
            planned[key] = toward(now, origin(now) if replicas is None else replicas)
            found = _loses(partition, planned[key])
        if found is not None:
            planned.pop(key, None)
            refused[key] = found
    return planned, refused


def _unknown(key: Key) -> Refusal:
    return Refusal(
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"There is no partition {key[0]!r}-{key[1]}."
    )


def _unacceptable(
    state: State, now: Assignment, replicas: tuple[int, ...], rules: Rules
) -> Refusal | None:
    """What is wrong with a target."""
    code = ErrorCode.INVALID_REPLICA_ASSIGNMENT
    if not replicas:
        return Refusal(code, "A partition has at least 1 replica.")
    if len(set(replicas)) != len(replicas):
        return Refusal(code, f"A broker is named twice: {_list(replicas)}.")
    if min(replicas) < 0:
        return Refusal(code, f"Ids of brokers are not negative: {_list(replicas)}.")
    if rules.alive:
        away = [b for b in toward(now, replicas).adding if b not in state.brokers]
        if away:
            return Refusal(code, f"These brokers are not there: {_list(away)}.")
    if rules.fixed_count and len(replicas) != len(target(now)):
        return Refusal(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The partition has {len(target(now))} replicas and would get {len(replicas)}.",
        )
    return None


def _loses(partition: Partition, planned: Assignment) -> Refusal | None:
    """A target that would have all in-sync replicas deleted, as only a change of mind during a move
    can, is refused. Apache Kafka 3.9 carries it out and loses the records, 4.x refuses it, too."""
    now = partition.state
    if now is None or not set(now.isr).isdisjoint(planned.replicas):
        return None
    return Refusal(
        ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        f"Only {_list(now.isr)} are in sync, and none of them would be left.",
    )


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def running(state: State, keys: Iterable[Key]) -> dict[Key, Assignment]:
    """Those of the partitions that are moving; a topic that is being deleted moves no more."""
    return {
        key: partition.assignment
        for key in keys
        if key[0] not in state.deletions
        and (partition := state.partition(key)) is not None
        and moving(partition.assignment)
    }


def reached(state: State, key: Key, partition: Partition) -> bool:
    """Whether nothing is left to wait for: all of the target is in the ISR and one of it can lead,
    or nobody comes or goes."""
    now, wanted = partition.state, target(partition.assignment)
    return not moving(partition.assignment) or (
        now is not None
        and set(wanted) <= set(now.isr)
        and any(state.online(broker_id, key) for broker_id in wanted)
    )


# --- leaderships on the way -----------------------------------------------------------------------


def announced(state: State, key: Key) -> Leadership | None:
    """Phase A: the same leader and ISR under a new epoch, so that everybody listens."""
    partition = state.partition(key)
    if partition is None or partition.state is None:
        return None
    return partition.state._replace(
        leader_epoch=partition.state.leader_epoch + 1, controller_epoch=state.epoch
    )


def led_by_target(state: State, key: Key) -> Leadership | None:
    """Phase B, the assignment is the target already: its leader stays or is the first in the ISR,
    under a new epoch, so that the leader lets nobody back in who is not of the target."""
    partition = state.partition(key)
    if partition is None or partition.state is None:
        return None
    now = partition.state
    leader = now.leader
    if leader not in partition.replicas or not state.online(leader, key):
        leader = _first(state, key, partition, now.isr)
    return now._replace(
        leader=leader, leader_epoch=now.leader_epoch + 1, controller_epoch=state.epoch
    )


def without(state: State, key: Key, gone: Sequence[int]) -> Leadership | None:
    """The ISR without replicas that are not assigned any more, and another leader if it was one of
    them; None if it is so already. The last of an ISR stays in it. Each that leaves costs an epoch,
    as in Apache Kafka, which takes them out one by one."""
    partition = state.partition(key)
    if partition is None or partition.state is None:
        return None
    now = partition.state
    isr = tuple(b for b in now.isr if b not in gone) or now.isr
    leader = _first(state, key, partition, isr) if now.leader in gone else now.leader
    if isr == now.isr and leader == now.leader:
        return None
    epoch = now.leader_epoch + max(1, sum(b in gone for b in now.isr))
    return now._replace(leader=leader, leader_epoch=epoch, isr=isr, controller_epoch=state.epoch)


def _first(state: State, key: Key, partition: Partition, isr: Sequence[int]) -> int:
    found = (b for b in partition.replicas if b in isr and state.online(b, key))
    return next(found, NO_LEADER)


# --- the old znode --------------------------------------------------------------------------------


def still_asked(
    asked: Mapping[Key, tuple[int, ...]], settled: Iterable[Key]
) -> dict[Key, tuple[int, ...]]:
    """What stays in /admin/reassign_partitions when these partitions have been dealt with."""
    done = set(settled)
    return {key: replicas for key, replicas in asked.items() if key not in done}
