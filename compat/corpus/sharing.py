"""What cases about share groups have in common (KIP-932): a member, its fetches, what it got."""

from collections.abc import Sequence
from typing import Any

from broker.cluster.layout import encode_uuid
from compat.corpus.consuming import set_group
from compat.script import Run, fitted

NEWEST = {"ShareGroupHeartbeat": 1, "ShareGroupDescribe": 1, "ShareFetch": 2,
          "ShareAcknowledge": 2, "DescribeShareGroupOffsets": 1}  # fmt: skip
GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)

Range = tuple[int, int]
Acks = Sequence[tuple[int, int, Sequence[int]]]
"""First offset, last offset, types."""


def version_of(run: Run, api: str) -> int:
    """The case's own API at its own version, others at the newest."""
    return run.version if api == run.case.api else NEWEST[api]


class Sharer:
    """A member of a share group: its epoch in the group and that of its share session."""

    def __init__(
        self, run: Run, name: str, group: str | None = None, *, many: bool = False
    ) -> None:
        """`many`: which partitions it gets is not compared. Among several members that depends on
        the ids of the topics, which differ."""
        self.many = many
        self.run = run
        self.group = run.group() if group is None else group
        self.name = name
        self.id = encode_uuid(b"member " + name.encode()[:9].rjust(9))
        self.epoch = 0
        self.session = 0
        run.coordinator(0)

    def _client(self) -> str:
        return f"client-{self.name}"

    # In the group

    def ask(self, step: str | None = None, **more: Any) -> Any:
        """A heartbeat; the answer changes nothing here."""
        version = version_of(self.run, "ShareGroupHeartbeat")
        fields = {"group_id": self.group, "member_id": self.id, "member_epoch": self.epoch, **more}
        return self.run.ask("ShareGroupHeartbeat", version, step=step or self.name,
                            client=self._client(), keep=_unassigned if self.many else None,
                            **fields)  # fmt: skip

    def beat(self, step: str | None = None, **more: Any) -> Any:
        """A heartbeat whose epoch is taken over."""
        answer = self.ask(step, **more)
        if answer is not None and answer.error_code == 0:
            self.epoch = answer.member_epoch
        return answer

    def join(self, *aliases: str, step: str | None = None, **more: Any) -> Any:
        names = [self.run.name(alias) for alias in aliases or ("t",)]
        fields = {"subscribed_topic_names": names, "member_epoch": 0, **more}
        return self.beat(step or f"{self.name} joins", **fields)

    def ready(self, *aliases: str) -> None:
        """Joins, and waits until the state of the topics' partitions is there: they are assigned
        from then on, and before that a fetch is in vain."""
        wanted = len(aliases) or 1
        told = self.join(*aliases).assignment
        if told is None or len(told.topic_partitions) != wanted:
            self.beat_until(wanted)

    def beat_until(self, count: int) -> None:
        """Heartbeats until partitions of so many topics are assigned; the last is written down."""

        def assigned(answer: Any) -> bool:
            told = answer.assignment
            return told is not None and len(told.topic_partitions) == count

        version = version_of(self.run, "ShareGroupHeartbeat")
        fields = {"group_id": self.group, "member_id": self.id, "member_epoch": self.epoch}
        answer = self.run.ask_until(assigned, "ShareGroupHeartbeat", version,
                                    client=self._client(), **fields)  # fmt: skip
        self.epoch = answer.member_epoch

    def leave(self, step: str | None = None) -> Any:
        return self.ask(step or f"{self.name} leaves", member_epoch=-1)

    def describe(self, step: str | None = None) -> Any:
        version = version_of(self.run, "ShareGroupDescribe")
        return self.run.ask("ShareGroupDescribe", version, group_ids=[self.group], step=step,
                            keep=undescribed if self.many else None)  # fmt: skip

    # In its share session

    def fetching(
        self, *partitions: tuple[str, int], acks: dict[tuple[str, int], Acks] | None = None,
        **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """The fields of a ShareFetch of partitions by topic alias."""
        fields = {
            "group_id": self.group, "member_id": self.id, "share_session_epoch": self.session,
            "max_wait_ms": 2000, "min_bytes": 1, "max_bytes": 1 << 20, "max_records": 500,
            "batch_size": 500, "topics": topics_of(self.run, partitions, acks or {}), **more,
        }  # fmt: skip
        return fitted("ShareFetch", version_of(self.run, "ShareFetch"), fields)

    def fetch(self, *partitions: tuple[str, int], step: str | None = None, **more: Any) -> Any:
        """A ShareFetch; the session goes on when it is answered without an error."""
        version = version_of(self.run, "ShareFetch")
        answer = self.run.ask("ShareFetch", version, step=step or f"{self.name} fetches",
                              client=self._client(), link=more.pop("link", "main"),
                              **self.fetching(*partitions, **more))  # fmt: skip
        self._goes_on(answer)
        return answer

    def poll(self, *partitions: tuple[str, int], step: str | None = None, **more: Any) -> Any:
        """A fetch that does not wait for records."""
        at_once = {"max_wait_ms": 0, "min_bytes": 0}
        return self.fetch(*partitions, step=step or f"{self.name} polls", **{**at_once, **more})

    def acknowledge(
        self, acks: dict[tuple[str, int], Acks], *, step: str | None = None, **more: Any
    ) -> Any:
        """A ShareAcknowledge."""
        version = version_of(self.run, "ShareAcknowledge")
        topics = topics_of(self.run, tuple(acks), acks)
        fields = {
            "group_id": self.group, "member_id": self.id, "share_session_epoch": self.session,
            "topics": topics, **more,
        }  # fmt: skip
        answer = self.run.ask("ShareAcknowledge", version, client=self._client(),
                              step=step or f"{self.name} acknowledges",
                              **fitted("ShareAcknowledge", version, fields))  # fmt: skip
        self._goes_on(answer)
        return answer

    def _goes_on(self, answer: Any) -> None:
        if answer is not None and answer.error_code == 0:
            self.session += 1

    def give_back(self, answer: Any, kind: int = RELEASE) -> None:
        """Acknowledges whatever an answer says that the member has."""
        for topic in answer.responses:
            alias = next(a for a in self.run.case.topics if self.run.topic_id(a) == topic.topic_id)
            for each in topic.partitions:
                acks = [(r.first_offset, r.last_offset, [kind]) for r in each.acquired_records]
                if acks:
                    self.acknowledge({(alias, each.partition_index): acks})

    def settled(self, alias: str, lag: int, partition: int = 0) -> None:
        """Waits until so many records of a partition are neither accepted nor given up."""
        wanted = [{"topic_name": self.run.name(alias), "partitions": [partition]}]
        groups = [{"group_id": self.group, "topics": wanted}]

        def is_there(answer: Any) -> bool:
            return bool(answer.groups[0].topics[0].partitions[0].lag == lag)

        self.run.ask_until(is_there, "DescribeShareGroupOffsets", 1, groups=groups)


def _unassigned(answer: Any) -> None:
    if answer.assignment is not None:
        answer.assignment.topic_partitions = []


def undescribed(answer: Any) -> None:
    """Takes the assignments out of a description."""
    for group in answer.groups:
        for member in group.members:
            member.assignment.topic_partitions = []


def topics_of(
    run: Run, partitions: Sequence[tuple[str, int]], acks: dict[tuple[str, int], Acks]
) -> list[dict[str, Any]]:
    """Partitions with their acknowledgements, by topic."""
    out: dict[str, list[dict[str, Any]]] = {}
    for alias, index in partitions:
        batches = [
            {"first_offset": first, "last_offset": last, "acknowledge_types": list(types)}
            for first, last, types in acks.get((alias, index), ())
        ]
        body = {"partition_index": index, "acknowledgement_batches": batches}
        out.setdefault(alias, []).append(body)
    return [{"topic_id": id_of(run, alias), "partitions": body} for alias, body in out.items()]


def id_of(run: Run, alias: str) -> bytes:
    """The id of a topic by alias, or one that nobody has."""
    try:
        return run.topic_id(alias)
    except KeyError:
        return run.other_id()


def from_the_start(run: Run, group: str | None = None, **more: str) -> None:
    """The group reads from the beginning of its partitions; `more` are settings of it, with
    underscores for dots."""
    settings = {"share.auto.offset.reset": "earliest",
                **{f"share.{k.replace('_', '.')}": v for k, v in more.items()}}  # fmt: skip
    set_group(run, run.group() if group is None else group, list(settings.items()))
