"""What cases about classic groups share: a group, its members' requests, subscriptions.

A case about one API asks the others at versions of the same time: at their newest when its own is
the newest, else at its own number where they have it.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from compat.offered import COVERED, NEW, judge_of
from compat.script import Pending, Run, fitted
from compat.stored import OFFSETS, Records, written

RANGE = "range"
SESSION_MS = 10_000
REBALANCE_MS = 10_000
_NEWEST_OF_OLD = {
    "JoinGroup": 9, "SyncGroup": 5, "Heartbeat": 4, "LeaveGroup": 5, "OffsetCommit": 9,
    "OffsetFetch": 9, "DescribeGroups": 5, "ListGroups": 5, "DeleteGroups": 2, "OffsetDelete": 0,
}  # fmt: skip

MEMBER_ID_REQUIRED = 79
REBALANCING = 27

Protocols = Sequence[tuple[str, bytes]]


def version_of(run: Run, api: str) -> int:
    """The version at which a case asks an API that helps it."""
    if api == run.case.api:
        return run.version
    newest = _NEWEST_OF_OLD[api]
    if run.case.api not in _NEWEST_OF_OLD:
        return newest
    last = COVERED[run.case.api][1]
    if run.version == last or judge_of(run.case.api, run.version + 1) == NEW:
        return newest
    return min(run.version, newest)


def subscription(*topics: str, data: bytes | None = None) -> bytes:
    """A consumer's metadata, version 0: the topics it subscribes to."""
    out = struct.pack(">hi", 0, len(topics))
    for topic in topics:
        out += struct.pack(">h", len(topic)) + topic.encode()
    return out + (struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data)


def left_behind(
    run: Run, *groups: str, ready: Callable[[Records], bool] = lambda records: True
) -> None:
    """What classic groups left in __consumer_offsets. The state of such a group is written as by
    3.9 (4.4 writes one record more when a group begins), so 4.4 judges the offsets only."""
    judge = run.case.judge or judge_of(run.case.api, run.version)
    written(run, OFFSETS, *groups, ready=ready, without="GroupMetadata" if judge == NEW else "")


def own_range(*topics: str, data: bytes | None = None) -> Protocols:
    """One protocol, with that subscription."""
    return ((RANGE, subscription(*topics, data=data)),)


class Group:
    """A classic group of one case."""

    def __init__(self, run: Run, alias: str = "group", kind: str = "consumer") -> None:
        self.run = run
        self.id = run.group(alias)
        self.kind = kind
        self.protocols: Protocols = own_range("t")
        run.coordinator(0)

    # One request each; what is not given is right.

    def _fields(self, api: str, fields: dict[str, Any]) -> dict[str, Any]:
        return fitted(api, version_of(self.run, api), {"group_id": self.id, **fields})

    def joining(
        self,
        member: str = "",
        *,
        protocols: Protocols | None = None,
        session: int = SESSION_MS,
        rebalance: int = REBALANCE_MS,
        instance: str | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """The fields of a JoinGroup."""
        chosen = self.protocols if protocols is None else protocols
        fields = {
            "session_timeout_ms": session,
            "rebalance_timeout_ms": rebalance,
            "member_id": member,
            "group_instance_id": instance,
            "protocol_type": self.kind,
            "protocols": [{"name": name, "metadata": data} for name, data in chosen],
            **more,
        }
        return self._fields("JoinGroup", fields)

    def join(
        self, member: str = "", *, link: str = "main", step: str | None = None,
        patience: float | None = None, **more: Any,
    ) -> Any:  # fmt: skip
        fields = self.joining(member, **more)
        version = version_of(self.run, "JoinGroup")
        return self.run.ask("JoinGroup", version, link=link, step=step, client=_client(link),
                            patience=patience, **fields)  # fmt: skip

    def begin_join(
        self, member: str = "", *, link: str = "main", step: str | None = None, **more: Any
    ) -> Pending:
        fields = self.joining(member, **more)
        version = version_of(self.run, "JoinGroup")
        return self.run.begin("JoinGroup", version, link=link, step=step, client=_client(link),
                              **fields)  # fmt: skip

    def enter(self, link: str = "main", **more: Any) -> Any:
        """Joins as a new member, with a second request where an id must be brought along."""
        answer = self.join("", link=link, **more)
        if answer is not None and answer.error_code == MEMBER_ID_REQUIRED:
            answer = self.join(answer.member_id, link=link, **more)
        return answer

    def begin_enter(self, link: str, **more: Any) -> tuple[str, Pending]:
        """As `enter`, without waiting for the answer; with the id of the member, if it is known.

        From version 4 on there are two requests, and the first is answered at once.
        """
        member = ""
        if version_of(self.run, "JoinGroup") >= 4 and more.get("instance") is None:
            answer = self.join("", link=link, **more)
            member = answer.member_id
        return member, self.begin_join(member, link=link, **more)

    def syncing(self, member: str, generation: int, **more: Any) -> dict[str, Any]:
        """The fields of a SyncGroup. `assignments` are (member id, bytes)."""
        assignments = more.pop("assignments", ())
        fields = {
            "generation_id": generation,
            "member_id": member,
            "group_instance_id": more.pop("instance", None),
            "protocol_type": self.kind,
            "protocol_name": RANGE,
            "assignments": [{"member_id": m, "assignment": data} for m, data in assignments],
            **more,
        }
        return self._fields("SyncGroup", fields)

    def sync(
        self, member: str, generation: int, *, link: str = "main", step: str | None = None,
        **more: Any,
    ) -> Any:  # fmt: skip
        fields = self.syncing(member, generation, **more)
        return self.run.ask("SyncGroup", version_of(self.run, "SyncGroup"), link=link, step=step,
                            **fields)  # fmt: skip

    def begin_sync(
        self, member: str, generation: int, *, link: str, step: str | None = None, **more: Any
    ) -> Pending:
        fields = self.syncing(member, generation, **more)
        return self.run.begin("SyncGroup", version_of(self.run, "SyncGroup"), link=link, step=step,
                              **fields)  # fmt: skip

    def beating(self, member: str, generation: int, instance: str | None) -> dict[str, Any]:
        """The fields of a Heartbeat."""
        fields = {
            "generation_id": generation, "member_id": member, "group_instance_id": instance
        }  # fmt: skip
        return self._fields("Heartbeat", fields)

    def beat(
        self, member: str, generation: int, *, instance: str | None = None, link: str = "main",
        step: str | None = None,
    ) -> Any:  # fmt: skip
        fields = self.beating(member, generation, instance)
        return self.run.ask("Heartbeat", version_of(self.run, "Heartbeat"), link=link, step=step,
                            **fields)  # fmt: skip

    def beat_until(self, code: int, member: str, generation: int, **more: Any) -> Any:
        """Heartbeats until that is the answer."""
        fields = self.beating(member, generation, more.pop("instance", None))
        return self.run.ask_until(
            lambda a: a.error_code == code, "Heartbeat", version_of(self.run, "Heartbeat"),
            **fields, **more,
        )  # fmt: skip

    def leave(
        self, *members: str | tuple[str, str | None], step: str | None = None, link: str = "main"
    ) -> Any:
        """Members by id, or by id and instance id; one in each request before version 3."""
        version = version_of(self.run, "LeaveGroup")
        named = [(m, None) if isinstance(m, str) else m for m in members]
        if version < 3:
            answer = None
            for member, _ in named:
                answer = self.run.ask("LeaveGroup", version, link=link, step=step,
                                      group_id=self.id, member_id=member)  # fmt: skip
            return answer
        body = [{"member_id": m, "group_instance_id": i, "reason": "case"} for m, i in named]
        fields = fitted("LeaveGroup", version, {"group_id": self.id, "members": body})
        return self.run.ask("LeaveGroup", version, link=link, step=step, **fields)

    def describe(self, step: str | None = None) -> Any:
        version = version_of(self.run, "DescribeGroups")
        return self.run.ask("DescribeGroups", version, step=step, groups=[self.id])

    def describe_until(self, state: str) -> Any:
        """Describes until the group is in that state."""
        return self.run.ask_until(
            lambda a: a.groups[0].group_state == state,
            "DescribeGroups", version_of(self.run, "DescribeGroups"), groups=[self.id],
        )  # fmt: skip

    def delete(self, step: str | None = None) -> Any:
        version = version_of(self.run, "DeleteGroups")
        return self.run.ask("DeleteGroups", version, step=step, groups_names=[self.id])

    def commit(
        self, topic: str, *offsets: int, member: str = "", generation: int = -1,
        instance: str | None = None, step: str | None = None, metadata: str | None = "",
        version: int | None = None, link: str = "main", **more: Any,
    ) -> Any:  # fmt: skip
        """Commits these offsets to partitions 0, 1, ... of a topic, given by alias."""
        version = version_of(self.run, "OffsetCommit") if version is None else version
        partitions = [
            {"partition_index": p, "committed_offset": o, "committed_metadata": metadata}
            for p, o in enumerate(offsets)
        ]
        fields = {
            "generation_id_or_member_epoch": generation,
            "member_id": member,
            "group_instance_id": instance,
            "topics": [_topic(self.run, topic, partitions)],
            **more,
        }
        wanted = fitted("OffsetCommit", version, {"group_id": self.id, **fields})
        return self.run.ask("OffsetCommit", version, step=step, link=link, **wanted)

    def offsets(
        self, topic: str, count: int, *, version: int | None = None, step: str | None = None
    ) -> Any:
        """Fetches the committed offsets of the first partitions of a topic."""
        version = version_of(self.run, "OffsetFetch") if version is None else version
        wanted = [_topic(self.run, topic, list(range(count)), "partition_indexes")]
        group = {"group_id": self.id, "topics": wanted}
        fields = {"groups": [group]} if version >= 8 else group
        return self.run.ask("OffsetFetch", version, step=step,
                            **fitted("OffsetFetch", version, fields))  # fmt: skip

    def settled(self, topic: str, offset: int, *, at: int) -> None:
        """Waits until that is the committed, stable offset of partition `at`."""
        name = self.run.name(topic)

        def is_there(answer: Any) -> bool:
            (partition,) = answer.topics[0].partitions
            return bool(partition.error_code == 0 and partition.committed_offset == offset)

        wanted = [{"name": name, "partition_indexes": [at]}]
        self.run.ask_until(
            is_there, "OffsetFetch", 7, group_id=self.id, topics=wanted, require_stable=True
        )

    # Sequences

    def alone(self, link: str = "main", **more: Any) -> str:
        """One member, in a stable group of generation 1; its id."""
        answer = self.enter(link, **more)
        member = str(answer.member_id)
        protocols = more.get("protocols") or self.protocols
        self.sync(
            member, answer.generation_id, link=link, assignments=[(member, b"all")],
            instance=more.get("instance"), protocol_name=protocols[0][0],
        )  # fmt: skip
        return member

    def pair(self, **more: Any) -> tuple[str, str, int]:
        """Two members in a stable group, the first one leads: both ids and the generation."""
        one = self.alone("one", **more)
        joining = self.begin_enter("two", protocols=own_range("t", data=b"2"), **more)[1]
        self.beat_until(REBALANCING, one, 1)
        again = self.begin_join(one, link="one", **more)
        first = self.run.finish(again)
        second = self.run.finish(joining)
        two, generation = str(second.member_id), int(first.generation_id)
        assignments = [(one, b"first"), (two, b"second")]
        self.sync(one, generation, link="one", assignments=assignments)
        self.sync(two, generation, link="two")
        return one, two, generation


def _topic(run: Run, alias: str, partitions: list[Any], key: str = "partitions") -> dict[str, Any]:
    """A topic by alias (name and id), or by a name that nobody has."""
    try:
        return {"name": run.name(alias), "topic_id": run.topic_id(alias), key: partitions}
    except KeyError:
        return {"name": alias, "topic_id": run.other_id(), key: partitions}


def _client(link: str) -> str:
    return "compat" if link == "main" else f"client-{link}"
