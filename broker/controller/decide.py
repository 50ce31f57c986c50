"""What follows from what happened: changes of partition states and notices to brokers. Pure.

A `Plan` is first written to the store (fenced, conditional on each partition's version), then
applied to the state, then told: brokers never hear of a leader that is not in the store. Rules are
those of Apache Kafka's ZooKeeper controller: a leader comes from the committed ISR, each change of
leader or ISR made here raises the leader epoch by one (a new controller's by one for each that is
away, too), a partition without a live ISR member has leader -1 and keeps its ISR.
"""

from collections.abc import Callable, Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field

from broker.cluster.layout import Leadership
from broker.controller.state import NO_LEADER, Deletion, Key, Partition, State

Unclean = Callable[[str], bool]
"""Whether a topic lets a replica outside the ISR lead when no other is left."""


def never(_: str) -> bool:
    """No unclean elections."""
    return False


def nobody(_: Key) -> frozenset[int]:
    """No replica of that partition."""
    return frozenset()


@dataclass(slots=True)
class Notices:
    """What brokers have to hear after a change; requests are built from the state when sent."""

    leader_and_isr: dict[int, dict[Key, bool]] = field(default_factory=dict)
    """Broker -> partition -> whether it is new."""
    metadata: dict[Key, None] = field(default_factory=dict)
    """Partitions that every live broker hears of."""
    brokers: set[int] = field(default_factory=set)
    """Brokers that get an UpdateMetadata even without partitions: the live brokers changed."""
    everything: set[int] = field(default_factory=set)
    """Brokers that hear of all partitions."""
    stop: dict[int, dict[Key, bool]] = field(default_factory=dict)
    """Broker -> partition -> whether its data goes too."""

    def leads(self, key: Key, broker_ids: Iterable[int], *, new: bool = False) -> None:
        """Tell these replicas of the leadership, and all brokers' metadata with them."""
        for broker_id in broker_ids:
            states = self.leader_and_isr.setdefault(broker_id, {})
            states[key] = states.get(key, False) or new
        self.metadata[key] = None


@dataclass(slots=True)
class Plan:
    """`changes`: the leadership to write for each partition; `notices`: whom to tell then."""

    changes: dict[Key, Leadership] = field(default_factory=dict)
    notices: Notices = field(default_factory=Notices)


def first_leadership(state: State, key: Key, replicas: Sequence[int]) -> Leadership | None:
    """Of a partition that never had one: the first live replica leads, all live ones follow it."""
    live = tuple(broker_id for broker_id in replicas if state.online(broker_id, key))
    return Leadership(live[0], 0, live, state.epoch) if live else None


def new_partitions(state: State, keys: Iterable[Key]) -> Plan:
    """Partitions without a leadership get one, if a replica is alive."""
    plan = Plan()
    for key in keys:
        partition = state.partition(key)
        if partition is None or partition.state is not None or key[0] in state.deletions:
            continue
        first = first_leadership(state, key, partition.replicas)
        if first is not None:
            plan.changes[key] = first
            plan.notices.leads(key, first.isr, new=True)
    return plan


def settle(
    state: State,
    keys: Iterable[Key],
    unclean: Unclean = never,
    came_back: Callable[[Key], Set[int]] = nobody,
) -> Plan:
    """Bring leaders and ISRs in line with the brokers that are there; elect where needed.

    `came_back`: replicas that are there again, but count as gone.
    """
    plan = Plan()
    for key in keys:
        partition = state.partition(key)
        if partition is None or key[0] in state.deletions:
            continue
        if partition.state is None:
            _merge(plan, new_partitions(state, [key]))
            continue
        changed = _settled(state, key, partition, partition.state, unclean, came_back(key))
        if changed is not None:
            plan.changes[key] = changed
            plan.notices.leads(key, _reachable(state, key, partition))
    return plan


def _settled(
    state: State,
    key: Key,
    partition: Partition,
    now: Leadership,
    unclean: Unclean,
    gone: Set[int],
) -> Leadership | None:
    """The leadership as it should be, or None when it is so already."""
    isr = tuple(b for b in now.isr if b not in gone and state.online(b, key))
    if now.leader not in gone and state.online(now.leader, key):
        if isr == now.isr:
            return None
        return Leadership(now.leader, now.leader_epoch + 1, isr, state.epoch, now.recovering)
    leader = next((b for b in partition.replicas if b in isr), NO_LEADER)
    if leader != NO_LEADER:
        return Leadership(leader, now.leader_epoch + 1, isr, state.epoch, now.recovering)
    if unclean(key[0]):
        leader = next((b for b in partition.replicas if state.online(b, key)), NO_LEADER)
        if leader != NO_LEADER:
            return Leadership(leader, now.leader_epoch + 1, (leader,), state.epoch, True)
    if now.leader == NO_LEADER:
        return None
    return Leadership(NO_LEADER, now.leader_epoch + 1, now.isr, state.epoch, now.recovering)


def _reachable(state: State, key: Key, partition: Partition) -> list[int]:
    return [b for b in partition.replicas if state.alive(b, key)]


def _merge(plan: Plan, more: Plan) -> None:
    plan.changes |= more.changes
    for broker_id, states in more.notices.leader_and_isr.items():
        for key, new in states.items():
            plan.notices.leads(key, [broker_id], new=new)
    plan.notices.metadata |= more.notices.metadata


def take_over(state: State, unclean: Unclean = never) -> Plan:
    """A newly elected controller: settle everything, then tell every broker all it hosts.

    The brokers have heard who is alive before (`announce_brokers`): a follower refuses a leader
    that is not in its metadata.

    A controller that reigns takes whoever registers anew out of the ISRs first (KIP-380), for what
    such a broker had acknowledged may not have outlived a power cut. When the controller itself is
    the one, it is often back before its successor has read who is there: the registration is then
    younger than the leadership. Apache Kafka's successor does not look, and lets it lead on.
    """
    plan = settle(state, list(state.all_keys()), unclean, state.came_back)
    for key in state.all_keys():
        _count_the_dead(state, key, plan)
    _tell_hosted(state, plan, set(state.brokers))
    plan.notices.everything |= set(state.brokers)
    return plan


def _count_the_dead(state: State, key: Key, plan: Plan) -> None:
    """Apache Kafka's new controller first takes every replica that is away out of the ISR, each
    with an epoch of its own and the last one too, although it stays in, and elects then. Here it is
    one change with the epoch that comes of it. Those that came back unseen count as away.
    """
    partition = state.partition(key)
    if partition is None or partition.state is None or key[0] in state.deletions:
        return
    now = partition.state
    back = state.came_back(key)
    away = sum(b in back or not state.online(b, key) for b in now.isr)
    if not away:
        return
    settled = plan.changes.get(key, now)
    elected = settled.leader not in (now.leader, NO_LEADER)
    epoch = now.leader_epoch + away + elected
    plan.changes[key] = settled._replace(leader_epoch=epoch, controller_epoch=state.epoch)
    plan.notices.leads(key, _reachable(state, key, partition))


def announce_brokers(state: State) -> Notices:
    """UpdateMetadata with the live brokers and no partitions, to everybody."""
    return Notices(brokers=set(state.brokers))


def introduce(state: State, came: set[int]) -> Notices:
    """Brokers registered: they hear of all partitions, the others of them."""
    return Notices(everything=set(came), brokers=set(state.brokers) - came)


def brokers_came(state: State, came: set[int], unclean: Unclean = never) -> Plan:
    """Brokers registered (they are in the state and introduced): they get their replicas, and
    what waited for them is elected."""
    plan = settle(state, list(_waiting(state, came)), unclean)
    _tell_hosted(state, plan, came)
    return plan


def _waiting(state: State, broker_ids: set[int]) -> Iterable[Key]:
    for key in state.keys_on(broker_ids):
        partition = state.partition(key)
        if partition is not None and (
            partition.state is None or partition.state.leader == NO_LEADER
        ):
            yield key


def _tell_hosted(state: State, plan: Plan, broker_ids: set[int]) -> None:
    """LeaderAndIsr for all replicas these brokers host, beside what the plan tells anyway."""
    notices = plan.notices
    for key in state.keys_on(broker_ids):
        partition = state.partition(key)
        if partition is None or key[0] in state.deletions:
            continue
        if partition.state is None and key not in plan.changes:
            continue
        for broker_id in partition.replicas:
            if broker_id in broker_ids and state.alive(broker_id, key):
                notices.leader_and_isr.setdefault(broker_id, {}).setdefault(key, False)


def brokers_went(state: State, went: set[int], unclean: Unclean = never) -> Plan:
    """Brokers died (they are out of the state): take them out of leaderships and ISRs."""
    plan = settle(state, list(state.keys_on(went)), unclean)
    plan.notices.brokers |= set(state.brokers)
    return plan


# --- deletion of topics ---------------------------------------------------------------------------


def delete_topics(state: State, names: Iterable[str]) -> Notices:
    """Topics become deletions: gone from metadata at once, their replicas told to delete."""
    notices = Notices()
    for name in names:
        topic = state.topics.get(name)
        if topic is None or name in state.deletions:
            continue
        state.deletions[name] = Deletion()
        for index in topic.partitions:
            notices.metadata[(name, index)] = None
        _ask_to_delete(state, name, notices)
    return notices


def resume_deletions(state: State, went: Collection[int]) -> Notices:
    """After brokers came or went: ask the replicas that can be asked now. Those that `went` do not
    answer any more, though they may be back already."""
    notices = Notices()
    for name, deletion in state.deletions.items():
        deletion.asked = {r for r in deletion.asked if r[0] not in went}
        _ask_to_delete(state, name, notices)
    return notices


def _ask_to_delete(state: State, name: str, notices: Notices) -> None:
    deletion = state.deletions[name]
    for index, partition in state.topics[name].partitions.items():
        for broker_id in partition.replicas:
            replica = (broker_id, index)
            if replica in deletion.done or replica in deletion.asked:
                continue
            if state.alive(broker_id, (name, index)):
                deletion.asked.add(replica)
                notices.stop.setdefault(broker_id, {})[(name, index)] = True


def replicas_deleted(state: State, broker_id: int, keys: Iterable[Key], *, ok: bool) -> set[str]:
    """A broker answered; returns the topics of which now every replica is gone."""
    touched: set[str] = set()
    for name, index in keys:
        deletion = state.deletions.get(name)
        if deletion is not None:
            deletion.asked.discard((broker_id, index))
            if ok:
                deletion.done.add((broker_id, index))
            touched.add(name)
    return {name for name in touched if deletion_complete(state, name)}


def deletion_complete(state: State, name: str) -> bool:
    """Whether all replicas of a topic in deletion are gone."""
    done = state.deletions[name].done
    return all(
        (broker_id, index) in done
        for index, partition in state.topics[name].partitions.items()
        for broker_id in partition.replicas
    )


def deletion_stalled(state: State, name: str) -> bool:
    """Whether the deletion waits for a broker that is away or a directory that failed."""
    deletion = state.deletions.get(name)
    return deletion is not None and not deletion.asked and not deletion_complete(state, name)
