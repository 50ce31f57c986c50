"""A group machine without a shell: commands in, everything that comes of them out, as text.

A transcript is a text file. Lines that begin with `>` are commands, `#` are remarks; what follows a
command is all that came of it:

    A: NONE generation 1 ...      an answer to A, as A's version of the API says it
    g: Stable ...                 a record of the group's state
    g t-0: 5 ...                  a record of an offset
    @ session A-1 at 10000        a timer was set, ms since the beginning; `off`: cancelled

`check` runs the commands and compares; with ODRADEK_TRANSCRIPTS=write it writes what came. Time is
virtual and stands still between commands; `> wait MS` lets it go by, timers fire in order.

Commands name the client (its client id, and the first part of its member id), what it does, the
group, and more as name=value. Member ids are the client's name and a count.
"""

import os
import shlex
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from broker.cluster.view import ClusterView, PartitionInfo, TopicInfo
from broker.config import BrokerConfig
from broker.coordinator import Outcome, StoredRecord, Waiting
from broker.groups.classic_turn import join_refused
from broker.groups.common import Caller, topic_changes
from broker.groups.machine import GroupMachine
from broker.groups.offset_table import Committed
from broker.groups.offsets import Committer, Write, fill
from protocol.compiler import decoder, encoder
from protocol.errors import ErrorCode, Malformed
from protocol.messages.delete_groups import DeletableGroupResult
from protocol.messages.heartbeat import HeartbeatRequest
from protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from protocol.messages.offset_commit import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from protocol.messages.offset_delete import OffsetDeleteResponse, OffsetDeleteResponsePartition
from protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from protocol.stored.consumer_offsets import GroupMetadataKey, decode_key, decode_value
from protocol.stored.consumer_protocol import (
    ConsumerProtocolSubscription,
    TopicPartition,
    decode_assignment,
    decode_subscription,
    encode_value,
)

START_MS = 1_700_000_000_000
WRITES = os.environ.get("ODRADEK_TRANSCRIPTS") == "write"
Words = dict[str, str]
OTHER_RECORDS: dict[int, Callable[[Any, Any], str]] = {}
"""Kinds of record that scripts of other protocols show: (key, value) as text."""


class VirtualTimers:
    """`broker.groups.common.TimerKeys` that fire when they are told to."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.at: dict[Hashable, int] = {}

    def set(self, key: Hashable, at_ms: int) -> None:
        self.at[key] = at_ms
        self._tell(f"@ {_timer(key)} at {at_ms - START_MS}")

    def cancel(self, key: Hashable) -> None:
        if self.at.pop(key, None) is not None:
            self._tell(f"@ {_timer(key)} off")

    def next(self, until_ms: int) -> Hashable | None:
        """The timer that is due first, taken; of several the one that was set first."""
        due = min(self.at, key=lambda key: self.at[key], default=None)
        return None if due is None or self.at[due] > until_ms else due


def _timer(key: Any) -> str:
    """A timer's purpose, and the group's name unless there is a member's."""
    return f"{key[1]} {key[-1]}" if len(key) > 2 else str(key[1])


class Script:
    """A machine under test. `run(command)` gives the lines that come of it."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.settings = dict(settings or {})
        self.lines: list[str] = []
        self.now_ms = START_MS
        # Records with their producer, and markers: (None, producer, committed).
        self.log: list[tuple[StoredRecord | None, int, bool]] = []
        self.ids = 0
        self.refusal: ErrorCode | None = None
        self.waiting: dict[str, Waiting] = {}
        self.view: ClusterView = view_of({"t": 4, "u": 4})
        self._new_machine()

    def _new_machine(self) -> None:
        self.timers = VirtualTimers(self.lines.append)
        self.machine = GroupMachine(
            0, self.timers, BrokerConfig(self.settings), lambda: self.view, self._new_id
        )
        for offset, (record, producer, committed) in enumerate(self.log):
            if record is None:
                self.machine.replay_end(producer, 0, committed)
            else:
                self.machine.replay(*record, producer, 0, offset)
        self._carry_out(self.machine.loaded(self.now_ms))

    def _new_id(self) -> str:
        self.ids += 1
        return str(self.ids)

    # --- the shell's part

    def _carry_out(self, outcome: Outcome) -> None:
        records, replies = outcome.records, outcome.replies
        if records and self.refusal is not None:
            code, self.refusal = self.refusal, None
            refused = outcome.refused
            replies = refused(code) if refused else [(w, w.refuse(code)) for w, _ in replies]
            records = ()
        producer = -1 if outcome.producer is None else outcome.producer[0]
        for record in records:
            self.log.append((record, producer, False))
            self.lines.append(_record(record) + (f" by {producer}" if producer >= 0 else ""))
            if outcome.replay:
                self.machine.replay(*record, producer, 0, len(self.log) - 1)
        for who, response in replies:
            who.answer(response)

    def _ask(
        self, name: str, refuse: Callable[[ErrorCode], Any], show: Callable[[Any], str]
    ) -> Any:
        who = Waiting(refuse)
        who.start(lambda response: self.lines.append(f"{name}: {show(response)}"))
        return who

    # --- commands

    def run(self, command: str) -> list[str]:
        """Do what a line says: `CLIENT VERB GROUP name=value ...`, or one of the machine's own."""
        self.lines.clear()
        first, *words = shlex.split(command)
        own = getattr(self, f"_do_{first}", None)
        if own is not None:
            own(*words)
        else:
            verb, group, *more = words
            named = dict(word.split("=", 1) for word in more)
            getattr(self, f"_{verb}")(first, group, named)
        return list(self.lines)

    def _do_wait(self, ms: str) -> None:
        until = self.now_ms + int(ms)
        while (timer := self.timers.next(until)) is not None:
            self.now_ms = self.timers.at.pop(timer)
            self.lines.append(f"{self.now_ms - START_MS}: {_timer(timer)}")
            self._carry_out(self.machine.expired(timer, self.now_ms))
        self.now_ms = until

    def _do_restart(self) -> None:
        """Another broker (or this one again) replays the log."""
        self._new_machine()

    def _do_refuse(self, code: str) -> None:
        """The next append is refused."""
        self.refusal = ErrorCode[code]

    def _do_delete(self, *groups: str) -> None:
        results = [DeletableGroupResult(group) for group in groups]
        who = self._ask("delete", lambda code: code, lambda rows: _codes(rows, "group_id"))
        self._carry_out(self.machine.offsets.delete_groups(results, who))

    def _do_marker(self, producer: str, result: str) -> None:
        self.log.append((None, int(producer), result == "commit"))
        self.machine.replay_end(int(producer), 0, result == "commit")

    def _do_limit(self, members: str) -> None:
        """group.max.size from the next restart on."""
        self.settings["group.max.size"] = members

    def _do_drop(self, *topics: str) -> None:
        """Topics are deleted."""
        old = self.view
        left = {n: len(info.partitions) for n, info in old.topics.items() if n not in topics}
        self.view = view_of(left, old)
        changes = topic_changes(old, self.view)
        assert changes.deleted == set(topics)
        self._carry_out(self.machine.topics_changed(changes, self.now_ms))
        self._carry_out(self.machine.topics_deleted(changes.deleted, self.now_ms))

    def _do_groups(self) -> None:
        """What there is, of the machine's memory."""
        groups, offsets = self.machine.shared.groups, self.machine.offsets
        for group in groups.values():
            self._show(group)
        for group_id in offsets.table.groups():
            if group_id not in groups:
                self.lines.append(f"{group_id}: offsets only")

    def _show(self, group: Any) -> None:
        members = ", ".join(_member(member) for member in group.members.values())
        told = f"{group.group_id}: {group.state_name} generation {group.generation}"
        self.lines.append(f"{told} of {group.leader}: {members or 'nobody'}")

    # --- what clients ask

    def _join(self, name: str, group: str, words: Words) -> None:
        version = int(words.get("v", "9"))
        member_id = words.get("id", "")
        request = JoinGroupRequest(
            group,
            int(words.get("session", "10000")),
            -1 if version == 0 else int(words.get("rebalance", "60000")),
            member_id,
            words.get("static"),
            words.get("type", "consumer"),
            [
                JoinGroupRequestProtocol(*_protocol(protocol))
                for protocol in words.get("protocols", "range:t").split("/")
                if protocol
            ],
            words.get("reason"),
        )
        request = _through(request, version)
        who = self._ask(
            name,
            lambda code: join_refused(version, code, member_id),
            lambda response: _joined(_through(response, version)),
        )
        members = self.machine.classic_members(group)
        self._carry_out(members.join_group(request, _caller(name, version), who, self.now_ms))

    def _sync(self, name: str, group: str, words: Words) -> None:
        version = int(words.get("v", "5"))
        request = SyncGroupRequest(
            group,
            int(words["generation"]),
            words["id"],
            words.get("static"),
            words.get("type", "consumer") if version >= 5 else None,
            words.get("protocol", "range") if version >= 5 else None,
            [
                SyncGroupRequestAssignment(member, given.encode())
                for member, given in _pairs(words.get("give", ""))
            ],
        )
        who = self._ask(
            name,
            lambda code: SyncGroupResponse(error_code=code),
            lambda response: _synced(_through(response, version)),
        )
        members = self.machine.classic_members(group)
        request = _through(request, version)
        self._carry_out(members.sync_group(request, _caller(name, version), who, self.now_ms))

    def _heartbeat(self, name: str, group: str, words: Words) -> None:
        request = HeartbeatRequest(
            group, int(words["generation"]), words["id"], words.get("static")
        )
        members = self.machine.classic_members(group)
        code = members.heartbeat(_through(request, 4), self.now_ms)
        self.lines.append(f"{name}: {code.name}")

    def _leave(self, name: str, group: str, words: Words) -> None:
        version = int(words.get("v", "5"))
        if version < 3:
            request = LeaveGroupRequest(group, words["id"])
        else:
            ids = _pairs(words.get("ids", words.get("id", "")))
            request = LeaveGroupRequest(
                group, members=[MemberIdentity(m, i or None, words.get("reason")) for m, i in ids]
            )
        who = self._ask(
            name,
            lambda code: LeaveGroupResponse(error_code=code),
            lambda response: _left(_through(response, version)),
        )
        members = self.machine.classic_members(group)
        request = _through(request, version)
        self._carry_out(members.leave_group(request, _caller(name, version), who, self.now_ms))

    def _commit(self, name: str, group: str, words: Words) -> None:
        """`t-0=5,t-1=7` in `offsets`, by a producer in `by`."""
        response = OffsetCommitResponse(topics=[OffsetCommitResponseTopic("rows")])
        writes = []
        for place, offset in _pairs(words["offsets"], "="):
            topic, _, index = place.rpartition("-")
            answer = OffsetCommitResponsePartition(int(index))
            response.topics[0].partitions.append(answer)
            expires = self.now_ms + int(words["keep"]) if "keep" in words else -1
            committed = Committed(int(offset), 3, words.get("metadata", ""), self.now_ms, expires)
            writes.append(Write(topic, int(index), committed, answer))
        producer = (int(words["by"]), 0) if "by" in words else None
        committer = Committer(
            words.get("id", ""),
            words.get("static"),
            int(words.get("generation", "-1")),
            int(words.get("v", "9")),
            producer,
        )

        def refuse(code: ErrorCode) -> OffsetCommitResponse:
            fill(writes, code)
            return response

        who = self._ask(name, refuse, lambda r: _codes(r.topics[0].partitions, "partition_index"))
        offsets = self.machine.offsets
        self._carry_out(offsets.commit(group, committer, writes, response, who, self.now_ms))

    def _offsets(self, name: str, group: str, words: Words) -> None:
        """What a group has, with `+` where a transaction is under way."""
        table = self.machine.offsets.table
        for place in sorted(table.places(group)):
            value = table.of(group).get(place)
            known = "none" if value is None else str(int.from_bytes(value[2:10], "big"))
            pending = " +" if table.is_pending(group, place) else ""
            self.lines.append(f"{place[0]}-{place[1]}: {known}{pending}")

    def _forget(self, name: str, group: str, words: Words) -> None:
        """OffsetDelete of `t-0,t-1` in `offsets`."""
        places = {}
        for place in words["offsets"].split(","):
            topic, _, index = place.rpartition("-")
            places[topic, int(index)] = OffsetDeleteResponsePartition(int(index))
        who = self._ask(
            name,
            lambda code: OffsetDeleteResponse(error_code=code),
            lambda r: (
                _codes(places.values(), "partition_index")
                if r == "rows"
                else ErrorCode(r.error_code).name
            ),
        )
        self._carry_out(self.machine.offsets.delete_offsets(group, places, "rows", who))


def view_of(topics: Mapping[str, int], old: ClusterView | None = None) -> ClusterView:
    """A cluster with these topics and partitions; those that `old` has are the same ones."""
    infos = {}
    for name, count in topics.items():
        partitions = tuple(PartitionInfo(i, 0, 0, (0,), (0,)) for i in range(count))
        infos[name] = TopicInfo(name, name.encode().rjust(16, b"."), partitions)
        if old is not None and name in old.topics:
            infos[name] = old.topics[name]
    names = {info.topic_id: name for name, info in infos.items()}
    return ClusterView(0, "cluster", 0, {}, infos, names)


# --- as text


def _caller(name: str, version: int) -> Caller:
    return Caller(name, "/h", version)


def _through(message: Any, version: int) -> Any:
    """A message as the other side sees it."""
    out = bytearray()
    encoder(type(message), version)(message, out)
    return decoder(type(message), version)(bytes(out), 0)[0]


def _pairs(text: str, by: str = ":") -> list[tuple[str, str]]:
    pairs = (word.partition(by) for word in text.split(",") if word)
    return [(first, second) for first, _, second in pairs]


def _protocol(text: str) -> tuple[str, bytes]:
    """`name:topic+topic`, `name:topic@topic-0+topic-1` with what the member has, or `name:!bytes`
    for what is no subscription."""
    name, _, topics = text.partition(":")
    if topics.startswith("!"):
        return name, topics[1:].encode()
    topics, has, owned = topics.partition("@")
    places = (place.rpartition("-") for place in owned.split("+") if place)
    parts = [TopicPartition(topic, [int(index)]) for topic, _, index in places]
    subscription = ConsumerProtocolSubscription(topics.split("+"), None, parts)
    return name, encode_value(subscription, 1 if has else 0)


def _metadata(data: Any) -> str:
    try:
        return "+".join(decode_subscription(bytes(data)).topics)
    except Malformed:
        return f"!{bytes(data).decode()}"


def _joined(response: JoinGroupResponse) -> str:
    if response.error_code:
        name = "" if response.protocol_name is None else " (protocol name empty)"
        return f"{ErrorCode(response.error_code).name} {response.member_id or 'nobody'}{name}"
    skip = ", skips assigning" if response.skip_assignment else ""
    members = ", ".join(
        f"{m.member_id}{_static(m.group_instance_id)} {_metadata(m.metadata)}"
        for m in response.members
    )
    told = f"generation {response.generation_id} {response.protocol_type} {response.protocol_name}"
    leader = f"leader {response.leader}" if response.leader else "no leader"
    return f"{told} as {response.member_id}, {leader}{skip}; {members or 'no members'}"


def _static(instance_id: str | None) -> str:
    return "" if instance_id is None else f"({instance_id})"


def _synced(response: SyncGroupResponse) -> str:
    if response.error_code:
        return ErrorCode(response.error_code).name
    told = f"{response.protocol_type} {response.protocol_name}"
    return f"{told} assigned '{given(response.assignment)}'"


def given(data: Any) -> str:
    """What a member was assigned, as its leader wrote it, or the broker (KIP-848)."""
    raw = bytes(data)
    if raw[:1] != b"\0":
        return raw.decode()
    parts = decode_assignment(raw).assigned_partitions
    return " ".join(f"{part.topic}-{index}" for part in parts for index in part.partitions)


def _left(response: LeaveGroupResponse) -> str:
    if not response.members:
        return ErrorCode(response.error_code).name
    rows = (
        f"{m.member_id or 'any'}{_static(m.group_instance_id)} {ErrorCode(m.error_code).name}"
        for m in response.members
    )
    return ", ".join(rows)


def _codes(rows: Iterable[Any], name: str) -> str:
    return ", ".join(f"{getattr(r, name)} {ErrorCode(r.error_code).name}" for r in rows)


def _member(member: Any) -> str:
    waits = "".join(
        f" {what}" for what in ("joining", "syncing") if getattr(member, what) is not None
    )
    name = f"{member.member_id}{_static(member.instance_id)}"
    return f"{name} '{given(member.assignment)}'{waits}"


def _record(record: StoredRecord) -> str:
    key = decode_key(record.key)
    assert key is not None
    value = decode_value(key.RECORD_TYPE, record.value)
    if key.RECORD_TYPE in OTHER_RECORDS:
        return OTHER_RECORDS[key.RECORD_TYPE](key, value)
    is_group = isinstance(key, GroupMetadataKey)
    name = key.group if is_group else f"{key.group} {key.topic}-{key.partition}"
    if value is None:
        return f"{name}: gone"
    if not is_group:
        expires = value.expire_timestamp
        until = f" until {expires - START_MS}" if expires >= 0 else ""
        text = f" {value.metadata!r}" if value.metadata else ""
        return f"{name}: {value.offset}{text} at {value.commit_timestamp - START_MS}{until}"
    members = "".join(
        f"\n    {m.member_id}{_static(m.group_instance_id)} {m.client_id} {m.client_host}"
        f" rebalance {m.rebalance_timeout} session {m.session_timeout}"
        f" {_metadata(m.subscription)} '{given(m.assignment)}'"
        for m in value.members
    )
    since = value.current_state_timestamp - START_MS
    told = f"{value.protocol_type} generation {value.generation} {value.protocol}"
    return f"{name}: {told} of {value.leader} since {since}{members}"


# --- transcripts


def check(path: Path, kind: type[Script] = Script) -> None:
    """Play a transcript; `settings` in its first lines (`# name = value`) are the broker's."""
    text = path.read_text()
    settings = dict(
        line[2:].split(" = ", 1)
        for line in text.splitlines()
        if line.startswith("# ")
        if " = " in line
    )
    script = kind(settings)
    played = []
    for line in text.splitlines():
        if line.startswith((">", "#")) or not line:
            played.append(line)
        if line.startswith(">"):
            played += script.run(line[1:].strip())
    seen = "\n".join(played) + "\n"
    if WRITES:
        path.write_text(seen)
    assert seen == text, "not what the transcript says; ODRADEK_TRANSCRIPTS=write shows the changes"
