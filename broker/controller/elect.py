"""Decisions about leaders and ISRs that somebody asked for. Pure.

A leader proposes an ISR (AlterPartition), a broker wants to stop (ControlledShutdown), an
administrator or the balancer wants an election (ElectLeaders). What follows from brokers that come
and go is in `decide.py`.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from broker.cluster.layout import Leadership
from broker.controller.decide import Plan
from broker.controller.state import NO_LEADER, Key, Partition, State
from protocol.errors import ErrorCode


class Wish(NamedTuple):
    """The ISR that a leader wants."""

    key: Key
    leader_epoch: int
    isr: tuple[int, ...]
    partition_epoch: int
    recovering: bool = False


def wished_isr(state: State, leader: int, wish: Wish) -> Leadership | ErrorCode | None:
    """The leadership to write, why it is not, or None when it is so already (KIP-497).

    Epochs above ours: this controller is the one that is outdated (NOT_CONTROLLER).
    """
    partition = state.partition(wish.key)
    if partition is None or partition.state is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    now = partition.state
    if wish.partition_epoch > partition.version or wish.leader_epoch > now.leader_epoch:
        return ErrorCode.NOT_CONTROLLER
    if wish.leader_epoch < now.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if (leader, wish.isr, wish.recovering) == (now.leader, now.isr, now.recovering):
        return None
    if wish.partition_epoch < partition.version:
        return ErrorCode.INVALID_UPDATE_VERSION
    if wish.recovering and (len(wish.isr) > 1 or not now.recovering):
        return ErrorCode.INVALID_REQUEST
    if not all(state.online(broker_id, wish.key) for broker_id in wish.isr):
        return ErrorCode.INELIGIBLE_REPLICA
    return Leadership(leader, now.leader_epoch, wish.isr, state.epoch, wish.recovering)


# --- a broker that stops --------------------------------------------------------------------------


def shut_down(state: State, broker_id: int) -> Plan:
    """Move leadership away from a broker that is about to stop (it is marked so in the state), and
    take it out of ISRs. Partitions without other replicas, or that nobody else may lead, stay.
    """
    plan = Plan()
    for key in state.keys_on([broker_id]):
        partition = state.partition(key)
        if partition is None or partition.state is None or key[0] in state.deletions:
            continue
        if len(partition.replicas) < 2:
            continue
        led = partition.state.leader == broker_id
        changed = (_moved if led else _left)(state, key, partition, partition.state)
        if changed is not None:
            plan.changes[key] = changed
            others = [b for b in partition.replicas if led or b != broker_id]
            plan.notices.leads(key, [b for b in others if state.alive(b, key)])
        if not led:
            plan.notices.stop.setdefault(broker_id, {})[key] = False
    return plan


def _moved(state: State, key: Key, partition: Partition, now: Leadership) -> Leadership | None:
    """Led by the first of the ISR that stays."""
    isr = tuple(b for b in now.isr if b not in state.shutting_down)
    leader = next((b for b in partition.replicas if b in isr and state.online(b, key)), NO_LEADER)
    if leader == NO_LEADER:
        return None
    return Leadership(leader, now.leader_epoch + 1, isr, state.epoch, now.recovering)


def _left(state: State, _: Key, __: Partition, now: Leadership) -> Leadership | None:
    """Without the followers that stop."""
    isr = tuple(b for b in now.isr if b not in state.shutting_down)
    if not isr or isr == now.isr:
        return None
    return Leadership(now.leader, now.leader_epoch + 1, isr, state.epoch, now.recovering)


def still_led(state: State, broker_id: int) -> list[Key]:
    """Partitions with several replicas that the broker leads all the same."""
    found: list[Key] = []
    for key in state.keys_on([broker_id]):
        partition = state.partition(key)
        if partition is not None and partition.state is not None:
            alone = len(partition.replicas) < 2 or key[0] in state.deletions
            if partition.state.leader == broker_id and not alone:
                found.append(key)
    return found


# --- elections ------------------------------------------------------------------------------------


class Election(IntEnum):
    """Kinds of elections, as ElectLeaders numbers them (KIP-460)."""

    PREFERRED = 0
    UNCLEAN = 1


def elect(state: State, keys: Iterable[Key], kind: Election) -> tuple[Plan, dict[Key, ErrorCode]]:
    """The elections that are possible, and why the others are not."""
    plan = Plan()
    refused: dict[Key, ErrorCode] = {}
    for key in keys:
        partition = state.partition(key)
        if partition is None:
            refused[key] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        elif key[0] in state.deletions:
            refused[key] = ErrorCode.INVALID_TOPIC_EXCEPTION
        elif partition.state is None:
            refused[key] = ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE
        else:
            choose = _preferred if kind is Election.PREFERRED else _unclean
            found = choose(state, key, partition, partition.state)
            if isinstance(found, ErrorCode):
                refused[key] = found
            else:
                plan.changes[key] = found
                alive = [b for b in partition.replicas if state.alive(b, key)]
                plan.notices.leads(key, alive)
    return plan, refused


def _preferred(
    state: State, key: Key, partition: Partition, now: Leadership
) -> Leadership | ErrorCode:
    """The head of the assignment, if it is alive and in sync."""
    head = partition.replicas[0]
    if now.leader == head:
        return ErrorCode.ELECTION_NOT_NEEDED
    if head not in now.isr or not state.online(head, key):
        return ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    return Leadership(head, now.leader_epoch + 1, now.isr, state.epoch, now.recovering)


def _unclean(
    state: State, key: Key, partition: Partition, now: Leadership
) -> Leadership | ErrorCode:
    """Whoever is alive, if nobody leads: one of the ISR rather than another."""
    if now.leader in state.brokers:
        return ErrorCode.ELECTION_NOT_NEEDED
    live = [b for b in partition.replicas if state.online(b, key)]
    isr = tuple(b for b in now.isr if b in live)
    leader = next((b for b in live if b in isr), NO_LEADER)
    if leader != NO_LEADER:
        return Leadership(leader, now.leader_epoch + 1, isr, state.epoch, now.recovering)
    if not live:
        return ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE
    return Leadership(live[0], now.leader_epoch + 1, (live[0],), state.epoch, True)


def imbalanced(state: State, percentage: int) -> list[Key]:
    """Partitions to give back to their preferred leaders: those of brokers that lead too few.

    A broker is balanced as long as no more than `percentage` of the partitions that it should lead
    are led by others (leader.imbalance.per.broker.percentage). Partitions that are being reassigned
    count as well: the first replica of the target may take over before the others have caught up.
    """
    should: dict[int, int] = {}
    strays: dict[int, list[Key]] = {}
    for key in state.all_keys():
        partition = state.partition(key)
        if partition is None or partition.state is None or key[0] in state.deletions:
            continue
        head = partition.replicas[0]
        should[head] = should.get(head, 0) + 1
        if partition.state.leader != head:
            strays.setdefault(head, []).append(key)
    return [
        key
        for head, keys in strays.items()
        if head in state.brokers and 100 * len(keys) > percentage * should[head]
        for key in keys
        if _may_return(state, key, head)
    ]


def _may_return(state: State, key: Key, head: int) -> bool:
    partition = state.partition(key)
    return (
        partition is not None
        and partition.state is not None
        and head in partition.state.isr
        and state.online(head, key)
    )
