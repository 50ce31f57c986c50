"""Scripts of consumer groups (KIP-848): the commands of `script`, and those of its heartbeats.

    A beat g topics=t+u ...       a heartbeat; the first one joins. A member's id is the client's
                                  name, its epoch what it was told last, unless `id`, `epoch` say
                                  otherwise. `own=t-0+t-1`, `own=all`, `own=none`: what it has, not
                                  said if that is left out
    A leave8 g                    leaves; with back=yes as a static member that will return
    A describe g                  ConsumerGroupDescribe
    topics t=6 v=1                topics are created, or have more partitions

After every command the log is replayed into a second machine, which must have the same groups.
"""

from collections.abc import Mapping
from typing import Any

from broker.cluster.view import PartitionInfo, TopicInfo
from broker.config import BrokerConfig
from broker.groups.common import CONSUMER, topic_changes
from broker.groups.machine import GroupMachine
from protocol.errors import ErrorCode
from protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from tests.broker.groups.script import (
    OTHER_RECORDS,
    START_MS,
    Script,
    VirtualTimers,
    Words,
    _caller,
    _static,
    _through,
    view_of,
)

STATES = ("stable", "revoking", "waiting")
LEAVE, LEAVE_STATIC = -1, -2


class ConsumerScript(Script):
    """A machine under test."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.epochs: dict[tuple[str, str], int] = {}
        self.given: dict[tuple[str, str], list[tuple[bytes, list[int]]]] = {}
        super().__init__({"group.consumer.assignment.interval.ms": "0"} | dict(settings or {}))
        self.other = GroupMachine(
            0, VirtualTimers(lambda _: None), BrokerConfig(self.settings), lambda: self.view, str
        )
        self.replayed = 0

    def run(self, command: str) -> list[str]:
        lines = super().run(command)
        for offset, (record, producer, _) in enumerate(self.log[self.replayed :], self.replayed):
            if record is not None:
                self.other.replay(*record, producer, 0, offset)
        self.replayed = len(self.log)
        assert snapshot(self.other) == snapshot(self.machine), "another broker sees something else"
        return lines

    def _do_topics(self, *words: str) -> None:
        old = self.view
        counts = {name: len(info.partitions) for name, info in old.topics.items()}
        wanted = {name: int(count) for name, _, count in (w.partition("=") for w in words)}
        new = view_of(counts | wanted, old)
        for name in wanted.keys() & old.topics.keys():
            parts = tuple(PartitionInfo(i, 0, 0, (0,), (0,)) for i in range(wanted[name]))
            info = TopicInfo(name, old.topics[name].topic_id, parts)
            new = view_of(counts | wanted, _with(old, info))
        self.view = _newer(new, old.version + 1)
        changes = topic_changes(old, self.view)
        self._carry_out(self.machine.topics_changed(changes, self.now_ms))

    def _show(self, group: Any) -> None:
        if group.kind == CONSUMER:
            self._describe("", group.group_id, {})
        else:
            super()._show(group)

    def _beat(self, name: str, group: str, words: Words) -> None:
        version = int(words.get("v", "1"))
        member_id = words.get("id", name)
        known = (group, member_id)
        epoch = int(words.get("epoch", self.epochs.get(known, 0)))
        request = ConsumerGroupHeartbeatRequest(
            group,
            member_id,
            epoch,
            words.get("static"),
            words.get("rack"),
            int(words.get("timeout", "60000" if epoch == 0 else "-1")),
            [t for t in words["topics"].split("+") if t] if "topics" in words else None,
            words.get("regex"),
            words.get("assignor"),
            self._owned(known, words.get("own", "none" if epoch == 0 else "")),
        )
        self._send(name, group, request, version)

    def _leave8(self, name: str, group: str, words: Words) -> None:
        request = ConsumerGroupHeartbeatRequest(
            group,
            words.get("id", name),
            LEAVE_STATIC if "back" in words else LEAVE,
            words.get("static"),
        )
        self._send(name, group, request, 1)

    def _send(
        self, name: str, group: str, request: ConsumerGroupHeartbeatRequest, version: int
    ) -> None:
        request = _through(request, version)

        def show(response: Any) -> str:
            response = _through(response, version)
            if response.error_code == ErrorCode.NONE:
                known = (group, response.member_id)
                self.epochs[known] = max(response.member_epoch, 0)
                if response.assignment is not None:
                    parts = response.assignment.topic_partitions
                    self.given[known] = [(p.topic_id, p.partitions) for p in parts]
            return self._answer(response, name)

        who = self._ask(name, lambda code: ConsumerGroupHeartbeatResponse(error_code=code), show)
        caller = _caller(name, version)
        self._carry_out(self.machine.consumer.consumer_heartbeat(request, caller, who, self.now_ms))

    def _answer(self, response: ConsumerGroupHeartbeatResponse, name: str) -> str:
        if response.error_code:
            said = f": {response.error_message}" if response.error_message else ""
            return f"{ErrorCode(response.error_code).name}{said}"
        as_whom = "" if response.member_id == name else f" as {response.member_id}"
        told = f"epoch {response.member_epoch}{as_whom}"
        if response.assignment is None:
            return told
        parts = response.assignment.topic_partitions
        return f"{told}, has {_places((p.topic_id, p.partitions) for p in parts)}"

    def _owned(self, known: tuple[str, str], text: str) -> list[TopicPartitions] | None:
        if not text:
            return None
        if text == "all":
            return [TopicPartitions(t, list(p)) for t, p in self.given.get(known, [])]
        places = (place.rpartition("-") for place in text.split("+") if text != "none")
        return [TopicPartitions(_id(topic), [int(index)]) for topic, _, index in places]

    def _describe(self, name: str, group: str, words: Words) -> None:
        described = self.machine.consumer.describe(group)
        if described.error_code:
            code = ErrorCode(described.error_code).name
            self.lines.append(f"{code}: {described.error_message}")
            return
        told = f"epoch {described.group_epoch} assigned {described.assignment_epoch}"
        self.lines.append(f"{group}: {described.group_state} {told} by {described.assignor_name}")
        for m in described.members:
            kind = "" if m.member_type == 1 else " classic"
            reads = "+".join(m.subscribed_topic_names) or m.subscribed_topic_regex
            has, wants = (
                _places((p.topic_id, p.partitions) for p in part.topic_partitions)
                for part in (m.assignment, m.target_assignment)
            )
            self.lines.append(
                f"    {m.member_id}{_static(m.instance_id)}{kind} epoch {m.member_epoch} "
                f"reads {reads}: has {has}; shall have {wants}"
            )


def snapshot(machine: GroupMachine) -> dict[str, Any]:
    """All that consumer groups are, for comparison."""
    return {
        group_id: {
            "epochs": (group.epoch, group.metadata_hash, group.assignment_epoch),
            "assigned": group.assignment_ms,
            "members": group.members,
            "static": group.static,
            "target": group.target,
            "topics": {regex: found.topics for regex, found in group.resolved.items()},
            "counts": (group._names, group._regexes, group._assignors, group._protocols),
            "classic": group.classic_members,
            "owners": group._owners,
        }
        for group_id, group in machine.shared.groups.items()
        if group.kind == CONSUMER
    }


def _with(view: Any, info: TopicInfo) -> Any:
    changed = view_of({}, view)
    return type(view)(
        changed.version, "cluster", 0, {}, {**view.topics, info.name: info}, changed.names
    )


def _newer(view: Any, version: int) -> Any:
    return type(view)(version, "cluster", 0, {}, view.topics, view.names)


def _id(topic: str) -> bytes:
    return topic.encode().rjust(16, b".")


def _places(parts: Any) -> str:
    places = [f"{t.lstrip(b'.').decode()}-{p}" for t, partitions in parts for p in partitions]
    return " ".join(places) or "nothing"


# --- records


def _gone(key: Any, what: str, value: Any, text: str) -> str:
    return f"{key.group_id}: {what} {'gone' if value is None else text}"


def _group(key: Any, value: Any) -> str:
    known = value is not None and value.metadata_hash != 0
    text = "" if value is None else f"{value.epoch}{'' if known else ' of no topics'}"
    return _gone(key, "epoch", value, text)


def _old(key: Any, value: Any) -> str:
    return _gone(key, "partitions of topics", value, "written")


def _member(key: Any, value: Any) -> str:
    if value is None:
        return _gone(key, f"member {key.member_id}", value, "")
    said = [
        f"{value.client_id} {value.client_host} rebalance {value.rebalance_timeout_ms}",
        "reads " + ("+".join(value.subscribed_topic_names) or "no names"),
    ]
    if value.subscribed_topic_regex:
        said.append(f"and {value.subscribed_topic_regex}")
    if value.rack_id is not None:
        said.append(f"rack {value.rack_id}")
    if value.server_assignor is not None:
        said.append(f"by {value.server_assignor}")
    if value.classic_member_metadata is not None:
        classic = value.classic_member_metadata
        names = "/".join(p.name for p in classic.supported_protocols)
        said.append(f"classic {names} session {classic.session_timeout_ms}")
    name = f"member {key.member_id}{_static(value.instance_id)}"
    return _gone(key, name, value, " ".join(said))


def _target_epoch(key: Any, value: Any) -> str:
    text = ""
    if value is not None:
        at_ms = value.assignment_timestamp
        text = f"{value.assignment_epoch} " + (f"at {at_ms - START_MS}" if at_ms else "at no time")
    return _gone(key, "target", value, text)


def _target(key: Any, value: Any) -> str:
    parts = [] if value is None else value.topic_partitions
    text = _places((p.topic_id, p.partitions) for p in parts)
    return _gone(key, f"target of {key.member_id}", value, text)


def _current(key: Any, value: Any) -> str:
    if value is None:
        return _gone(key, f"state of {key.member_id}", value, "")
    text = f"{STATES[value.state]} epoch {value.member_epoch} after {value.previous_member_epoch}, "
    text += f"has {_held(value.assigned_partitions)}"
    if value.partitions_pending_revocation:
        text += f", gives up {_held(value.partitions_pending_revocation)}"
    return _gone(key, f"state of {key.member_id}", value, text)


def _held(parts: Any) -> str:
    places = [
        f"{p.topic_id.lstrip(b'.').decode()}-{index}@{epoch}"
        for p in parts
        for index, epoch in zip(p.partitions, p.assignment_epochs, strict=True)
    ]
    return " ".join(places) or "nothing"


def _regex(key: Any, value: Any) -> str:
    text = "" if value is None else f"matches {' '.join(value.topics) or 'nothing'}"
    return _gone(key, f"pattern {key.regular_expression}", value, text)


OTHER_RECORDS.update(
    {
        3: _group,
        4: _old,
        5: _member,
        6: _target_epoch,
        7: _target,
        8: _current,
        16: _regex,
    }
)
