"""Which topics the patterns of a consumer group match (KIP-848): when that is looked up, and what
follows from it.

All patterns of a group are matched at a time, so that they lead to one rebalance. It is done after
the request that asks for it, in slices: timers of this group whose time has come already.
"""

from typing import Final

from broker.groups.common import CONSUMER, Shared
from broker.groups.consumer_group import ConsumerGroup, ConsumerMember, ResolvedRegex
from broker.groups.consumer_records import group_record, regex_record, regex_tombstone
from broker.groups.consumer_turn import CHANGED, CHANGED_AND_KNOWN, UNCHANGED, Refused, Turn
from broker.groups.hash_order import members_ordered
from broker.groups.regex import Pattern
from broker.groups.regex_syntax import InvalidPattern
from broker.groups.target import TopicHashes
from protocol.errors import ErrorCode

REFRESH_LEAST_MS: Final = 10_000
"""Time between two look-ups for a group at least; a constant in Apache Kafka too."""
REFRESH_MOST_MS: Final = 600_000
"""Age from which the topics are looked up again in any case."""
SLICE: Final = 200_000
"""Work of `Pattern` in one go: some tens of milliseconds."""


class _Job:
    """The patterns of a group and the topics of one moment, being matched."""

    def __init__(self, regexes: list[str], topics: list[str], version: int) -> None:
        self.version = version
        self.found: dict[str, set[str]] = {regex: set() for regex in regexes}
        self._topics = topics
        self._left = [(regex, 0) for regex in reversed(regexes)]

    def work(self) -> bool:
        """One slice; whether all is done."""
        while self._left:
            regex, at = self._left.pop()
            pattern = Pattern(regex)
            found = self.found[regex]
            while at < len(self._topics):
                if pattern.work > SLICE:
                    self._left.append((regex, at))
                    return False
                name = self._topics[at]
                at += 1
                if pattern.matches(name):
                    found.add(name)
        return True


class Regexes:
    """Of all consumer groups of a machine."""

    def __init__(self, shared: Shared, hashes: TopicHashes) -> None:
        self._shared = shared
        self._hashes = hashes
        self._jobs: dict[str, _Job] = {}
        self._new_topics = 0

    def topics_created(self) -> None:
        """The present picture of the cluster has topics that the one before had not."""
        self._new_topics = self._shared.view().version

    def subscribe(self, turn: Turn, member: ConsumerMember) -> int:
        """The member of a turn becomes this one: what that means for its pattern."""
        group, old, new = turn.group, turn.before.regex, member.regex
        status, needed = UNCHANGED, False
        if old != new:
            status = CHANGED
            if old and group.count_of_regex(old) == 1:
                turn.records.append(regex_tombstone(group.group_id, old))
            if not new or (group.count_of_regex(new) and new in group.resolved):
                status = CHANGED_AND_KNOWN
            elif not group.count_of_regex(new):
                self._check(new)
                needed = True
        if needed or group.regexes:
            self._refresh(turn, new, needed)
        return status

    @staticmethod
    def _check(regex: str) -> None:
        try:
            Pattern(regex)
        except InvalidPattern as error:
            raise Refused(
                ErrorCode.INVALID_REGULAR_EXPRESSION,
                f"SubscribedTopicRegex `{regex}` is not a valid regular expression: {error}.",
            ) from None

    def _refresh(self, turn: Turn, new: str, needed: bool) -> None:
        """Look the topics up, if that is due: `needed` for a new pattern."""
        group, old = turn.group, turn.before.regex
        last = group.last_refresh_ms
        if group.group_id in self._jobs or turn.now_ms <= last + REFRESH_LEAST_MS:
            return
        counts = dict(group.regexes)
        for regex, step in ((old, -1), (new, 1)):
            if regex:
                counts[regex] = counts.get(regex, 0) + step
        wanted = [regex for regex, count in counts.items() if count > 0]
        due = (
            needed
            or len(wanted) != len(group.resolved)
            or group.refreshed_version < self._new_topics
            or turn.now_ms > last + REFRESH_MOST_MS
        )
        if due and wanted:
            view = self._shared.view()
            job = _Job(members_ordered(wanted), sorted(view.topics), view.version)
            self._jobs[group.group_id] = job
            self._shared.timers.set((CONSUMER, "regex", group.group_id), turn.now_ms)

    def work(self, group_id: str, group: ConsumerGroup | None, now_ms: int) -> Turn | None:
        """A slice of a look-up; its records when it is done."""
        job = self._jobs.get(group_id)
        if job is None:
            return None
        if group is not None and not job.work():
            self._shared.timers.set((CONSUMER, "regex", group_id), now_ms)
            return None
        del self._jobs[group_id]
        return None if group is None else self._found(job, group, now_ms)

    def _found(self, job: _Job, group: ConsumerGroup, now_ms: int) -> Turn:
        turn = Turn(group, now_ms)
        resolved = dict(group.resolved)
        changed = False
        for regex, topics in job.found.items():
            if group.count_of_regex(regex):
                before = group.resolved.get(regex)
                resolved[regex] = ResolvedRegex(frozenset(topics), job.version, now_ms)
                changed = changed or (before.topics if before else frozenset()) != topics
                turn.records.append(regex_record(group.group_id, regex, resolved[regex]))
        topics = group.topics_with(resolved)
        metadata_hash = self._hashes.of(topics, self._shared.view())
        if changed or metadata_hash != group.metadata_hash:
            epoch = group.epoch + 1
            turn.records.append(group_record(group.group_id, epoch, metadata_hash))
            group.checked_epoch = epoch
        return turn
