"""Scripts of share groups (KIP-932): the commands of `script`, and those of their heartbeats.

    A beat g topics=t+u ...       a heartbeat; the first one joins. A member's id is the client's
                                  name, its epoch what it was told last, unless `id`, `epoch` say
                                  otherwise
    A leave9 g                    leaves
    A describe g                  ShareGroupDescribe
    made g t=0+1 u=0              the share coordinator has states of these partitions
    unmade g t=0+1                it could not make them
    alter g t=0:5+1:7             start offsets are set
    forget g t u                  offsets of topics are to be deleted
    forgotten g t u               they are
    end g                         the group's states are to be deleted
    topics t=6 v=1                topics are created, or have more partitions

What the shell is to do is shown as `work:`. After every command the log is replayed into a second
machine, which must have the same groups.
"""

from collections.abc import Callable, Mapping
from typing import Any

from broker.config import BrokerConfig
from broker.coordinator import Outcome
from broker.groups.machine import GroupMachine
from broker.groups.share_group import ShareGroup, States
from broker.groups.share_states import InitializeStates, Partitions
from broker.shares.common import Refused
from protocol.errors import ErrorCode
from protocol.messages.share_group_heartbeat import (
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
)
from tests.broker.groups.consumer_script import ConsumerScript, _gone, _id, _places
from tests.broker.groups.script import (
    OTHER_RECORDS,
    START_MS,
    Script,
    VirtualTimers,
    Words,
    _caller,
    _through,
)

LEAVE = -1
VERSION = 1


class ShareScript(ConsumerScript):
    """A machine under test."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        super().__init__({"group.share.assignment.interval.ms": "0"} | dict(settings or {}))

    def run(self, command: str) -> list[str]:
        lines = Script.run(self, command)
        again = GroupMachine(
            0, VirtualTimers(lambda _: None), BrokerConfig(self.settings), lambda: self.view, str
        )
        for offset, (record, producer, _) in enumerate(self.log):
            assert record is not None
            again.replay(*record, producer, 0, offset)
        assert snapshot(again) == snapshot(self.machine), "another broker sees something else"
        return lines

    def _carry_out(self, outcome: Outcome) -> None:
        refused = outcome.records and self.refusal is not None
        super()._carry_out(outcome)
        for work in () if refused else outcome.work:
            self.lines.append(f"work: {_work(work)}")

    def _do_drop(self, *topics: str) -> None:
        ids = frozenset(self.view.topics[name].topic_id for name in topics)
        super()._do_drop(*topics)
        self._carry_out(self.machine.states_deleted(ids))

    def _show(self, group: Any) -> None:
        self._describe("", group.group_id, {})

    # --- what members ask

    def _beat(self, name: str, group: str, words: Words) -> None:
        member_id = words.get("id", name)
        request = ShareGroupHeartbeatRequest(
            group,
            member_id,
            int(words.get("epoch", self.epochs.get((group, member_id), 0))),
            words.get("rack"),
            words["topics"].split("+") if "topics" in words else None,
        )
        self._report(name, group, request)

    def _leave9(self, name: str, group: str, words: Words) -> None:
        self._report(name, group, ShareGroupHeartbeatRequest(group, words.get("id", name), LEAVE))

    def _report(self, name: str, group: str, request: ShareGroupHeartbeatRequest) -> None:
        request = _through(request, VERSION)

        def show(response: Any) -> str:
            response = _through(response, VERSION)
            if response.error_code == ErrorCode.NONE:
                self.epochs[group, request.member_id] = max(response.member_epoch, 0)
            return self._answer(response, name)

        who = self._ask(name, lambda code: ShareGroupHeartbeatResponse(error_code=code), show)
        caller = _caller(name, VERSION)
        self._carry_out(self.machine.share.heartbeat(request, caller, who, self.now_ms))

    def _describe(self, name: str, group: str, words: Words) -> None:
        described = self.machine.share.describe(group)
        if described.error_code:
            code = ErrorCode(described.error_code).name
            self.lines.append(f"{code}: {described.error_message}")
            return
        told = f"epoch {described.group_epoch} assigned {described.assignment_epoch}"
        self.lines.append(f"{group}: {described.group_state} {told} by {described.assignor_name}")
        for m in described.members:
            has = _places((p.topic_id, p.partitions) for p in m.assignment.topic_partitions)
            reads = "+".join(m.subscribed_topic_names)
            rack = "" if m.rack_id is None else f" rack {m.rack_id}"
            self.lines.append(
                f"    {m.member_id}{rack} epoch {m.member_epoch} reads {reads}: {has}"
            )

    # --- what becomes of states

    def _do_made(self, group: str, *topics: str) -> None:
        self._carry_out(self.machine.share.states.initialized(group, _partitions(topics)))

    def _do_unmade(self, group: str, *topics: str) -> None:
        self._carry_out(self.machine.share.states.uninitialized(group, _partitions(topics)))

    def _do_alter(self, group: str, *topics: str) -> None:
        offsets = {
            _id(name): {int(p): int(at) for p, _, at in (x.partition(":") for x in rest.split("+"))}
            for name, _, rest in (topic.partition("=") for topic in topics)
        }
        self._decide(lambda: self._altered(group, offsets))

    def _altered(self, group: str, offsets: Any) -> tuple[Any, str]:
        states = self.machine.share.states
        records, work = states.alter_offsets(group, offsets, self.now_ms)
        return records, f"work: {_work(work)}"

    def _do_forget(self, group: str, *topics: str) -> None:
        def refused(name: str, sentence: str | None) -> None:
            self.lines.append(f"{name}: {sentence or 'unknown'}")

        self._decide(
            lambda: self._going(
                self.machine.share.states.begin_offset_deletion(group, topics, refused)
            )
        )

    def _do_forgotten(self, group: str, *topics: str) -> None:
        ids = [_id(name) for name in topics]
        self._carry_out(self.machine.share.states.offsets_deleted(group, ids))

    def _do_end(self, group: str) -> None:
        self._decide(lambda: self._going(self.machine.share.states.begin_deletion(group)))

    @staticmethod
    def _going(decided: tuple[Any, Partitions]) -> tuple[Any, str]:
        records, partitions = decided
        return records, f"work: delete {_places(partitions.items())}"

    def _decide(self, decide: Callable[[], tuple[Any, str]]) -> None:
        try:
            records, text = decide()
        except Refused as refused:
            self.lines.append(f"{refused.code.name}: {refused.message}")
            return
        self._carry_out(Outcome(records))
        self.lines.append(text)


def snapshot(machine: GroupMachine) -> dict[str, Any]:
    """All that share groups are, for comparison; when states were asked for is nobody else's."""
    return {
        group.group_id: {
            "epochs": (group.epoch, group.metadata_hash, group.assignment_epoch),
            "assigned": group.assignment_ms,
            "members": group.members,
            "target": group.target,
            "counts": group._names,
            "states": (_plain(group.initializing), _plain(group.initialized), group.deleting),
        }
        for group in machine.shared.groups.values()
        if isinstance(group, ShareGroup)
    }


def _plain(states: States) -> dict[bytes, tuple[str, frozenset[int]]]:
    return {topic_id: (one.name, one.partitions) for topic_id, one in states.items()}


def _partitions(topics: tuple[str, ...]) -> dict[bytes, list[int]]:
    pairs = (topic.partition("=") for topic in topics)
    return {_id(name): [int(index) for index in rest.split("+")] for name, _, rest in pairs}


def _work(work: InitializeStates) -> str:
    places = [
        f"{topic_id.lstrip(b'.').decode()}-{index}@{offset}"
        for topic_id, offsets in work.offsets.items()
        for index, offset in offsets.items()
    ]
    return f"states of {work.group_id} epoch {work.state_epoch}: {' '.join(places) or 'none'}"


# --- records


def _group(key: Any, value: Any) -> str:
    known = value is not None and value.metadata_hash != 0
    return _gone(key, "epoch", value, f"{value and value.epoch}{'' if known else ' of no topics'}")


def _member(key: Any, value: Any) -> str:
    text = ""
    if value is not None:
        rack = "" if value.rack_id is None else f" rack {value.rack_id}"
        reads = "+".join(value.subscribed_topic_names)
        text = f"{value.client_id} {value.client_host} reads {reads}{rack}"
    return _gone(key, f"member {key.member_id}", value, text)


def _target_epoch(key: Any, value: Any) -> str:
    at_ms = value.assignment_timestamp if value is not None else 0
    at = f"at {at_ms - START_MS}" if at_ms else "at no time"
    return _gone(key, "target", value, f"{value and value.assignment_epoch} {at}")


def _target(key: Any, value: Any) -> str:
    parts = [] if value is None else value.topic_partitions
    text = _places((p.topic_id, p.partitions) for p in parts)
    return _gone(key, f"target of {key.member_id}", value, text)


def _current(key: Any, value: Any) -> str:
    text = ""
    if value is not None:
        has = _places((p.topic_id, p.partitions) for p in value.assigned_partitions)
        text = f"epoch {value.member_epoch} after {value.previous_member_epoch}, has {has}"
        assert value.state == 0
    return _gone(key, f"state of {key.member_id}", value, text)


def _states(key: Any, value: Any) -> str:
    text = ""
    if value is not None:
        coming, there = (
            _places((info.topic_id, info.partitions) for info in infos)
            for infos in (value.initializing_topics, value.initialized_topics)
        )
        going = " ".join(info.topic_name for info in value.deleting_topics) or "nothing"
        text = f"coming {coming}; there {there}; going {going}"
    return _gone(key, "states", value, text)


OTHER_RECORDS.update(
    {
        10: _member,
        11: _group,
        12: _target_epoch,
        13: _target,
        14: _current,
        15: _states,
    }
)
