"""What cases about groups of the consumer protocol share (KIP-848): a member and its heartbeats."""

from collections.abc import Sequence
from typing import Any

from compat.script import Run, fitted

API = "ConsumerGroupHeartbeat"
NEWEST = {"ConsumerGroupHeartbeat": 1, "ConsumerGroupDescribe": 1}
GROUP_CONFIG = 32
REBALANCE_MS = 10_000


def version_of(run: Run, api: str) -> int:
    """The case's own API at its own version, others at the newest."""
    return run.version if api == run.case.api else NEWEST[api]


class Consumer:
    """A member of a consumer group. Id and epoch are what the broker said last; what it owns is
    what the case says."""

    def __init__(self, run: Run, name: str, group: str | None = None, **joining: Any) -> None:
        """`joining`: fields of its first heartbeat beside the subscription to topic `t`."""
        self.run = run
        self.group = run.group() if group is None else group
        self.name = name
        self.id = name  # chosen here at all versions: ids decide who gets what
        self.epoch = 0
        self.owned: list[dict[str, Any]] = []
        self.joining = {"rebalance_timeout_ms": REBALANCE_MS, **joining}
        run.coordinator(0)

    def fields(self, **more: Any) -> dict[str, Any]:
        own = {
            "group_id": self.group,
            "member_id": self.id,
            "member_epoch": self.epoch,
            "instance_id": self.joining.get("instance_id"),
        }
        return fitted(API, version_of(self.run, API), {**own, **more})

    def ask(self, step: str | None = None, **more: Any) -> Any:
        """Any heartbeat; the answer changes nothing here."""
        version = version_of(self.run, API)
        return self.run.ask(API, version, step=step or self.name, client=f"client-{self.name}",
                            **self.fields(**more))  # fmt: skip

    def beat(self, step: str | None = None, **more: Any) -> Any:
        """A heartbeat whose epoch and assignment are taken over (what is assigned is owned from
        the next `own` on)."""
        answer = self.ask(step, **more)
        return self._took(answer)

    def _took(self, answer: Any) -> Any:
        if answer is not None and answer.error_code == 0:
            self.id, self.epoch = answer.member_id, answer.member_epoch
            if answer.assignment is not None:
                self.owned = [
                    {"topic_id": bytes(t.topic_id), "partitions": list(t.partitions)}
                    for t in answer.assignment.topic_partitions
                ]
        return answer

    def joined(self, **more: Any) -> dict[str, Any]:
        """The fields of a first heartbeat."""
        topics = [self.run.name("t")] if "t" in self.run.case.topics else ["t"]
        fields = {"subscribed_topic_names": topics, "topic_partitions": [], "member_epoch": 0}
        return {**fields, **self.joining, **more}

    def join(self, step: str | None = None, **more: Any) -> Any:
        return self.beat(step or f"{self.name} joins", **self.joined(**more))

    def own(self, step: str | None = None, **more: Any) -> Any:
        """A heartbeat that says that the member owns what it was assigned last."""
        return self.beat(step or f"{self.name} owns", topic_partitions=self.owned, **more)

    def own_until(self, ready: Any, **more: Any) -> Any:
        """`own`, until the answer satisfies `ready`; only the last is written down."""
        version = version_of(self.run, API)
        fields = self.fields(topic_partitions=self.owned, **more)
        client = f"client-{self.name}"
        return self._took(self.run.ask_until(ready, API, version, client=client, **fields))

    def leave(self, step: str | None = None, epoch: int = -1) -> Any:
        return self.ask(step or f"{self.name} leaves", member_epoch=epoch)

    def describe(self, step: str | None = None) -> Any:
        version = version_of(self.run, "ConsumerGroupDescribe")
        return self.run.ask("ConsumerGroupDescribe", version, group_ids=[self.group], step=step)


def settle(*members: Consumer) -> None:
    """Heartbeats of all until nobody is told anything new; all are written down."""
    for _ in range(8):
        changed = False
        for member in members:
            before = member.epoch
            answer = member.own()
            changed |= answer.assignment is not None or member.epoch != before
        if not changed:
            return


def partitions(run: Run, alias: str, *indexes: int) -> list[dict[str, Any]]:
    """Partitions of one topic, as a heartbeat names them."""
    try:
        topic_id = run.topic_id(alias)
    except KeyError:
        topic_id = run.other_id()
    return [{"topic_id": topic_id, "partitions": list(indexes)}]


def set_group(run: Run, group: str, settings: Sequence[tuple[str, str]]) -> None:
    """Dynamic settings of a group (KIP-848)."""
    configs = [{"name": n, "config_operation": 0, "value": v} for n, v in settings]
    resource = {"resource_type": GROUP_CONFIG, "resource_name": group, "configs": configs}
    answer = run.ask("IncrementalAlterConfigs", 1, resources=[resource], step="group settings")
    if answer is None or answer.responses[0].error_code:
        return
    asked = {"resource_type": GROUP_CONFIG, "resource_name": group, "configuration_keys": None}

    def told(answer: Any) -> bool:
        values = {c.name: c.value for c in answer.results[0].configs}
        return all(values.get(name) == value for name, value in settings)

    run.ask_until(told, "DescribeConfigs", 4, resources=[asked])
    run.steps.pop()
    run.pause(0.05)  # a KRaft broker tells of a setting a moment before it works with it
