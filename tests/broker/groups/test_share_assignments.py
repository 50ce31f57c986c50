"""Assignments of share groups are those that Apache Kafka 4.4.0 made for the same members, topics
and order of events.

captured/share-assignments.jsonl.gz: groups whose members join, leave, change topics; topics as
[name, id, partitions], each step as [member, epoch, topics, the epoch and what was assigned in the
answer (null: nothing new)]. Topics whose ids share a place of a hash table are left out: the order
of those is not followed.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from broker.cluster.view import ClusterView, PartitionInfo, TopicInfo
from broker.config import BrokerConfig
from broker.coordinator import Waiting
from broker.groups.common import Caller
from broker.groups.machine import GroupMachine
from protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from tests.broker.groups.script import VirtualTimers

CAPTURED = [
    json.loads(line)
    for line in gzip.decompress(
        (Path(__file__).parents[1] / "captured/share-assignments.jsonl.gz").read_bytes()
    ).splitlines()
]
SETTINGS = {"group.share.assignment.interval.ms": "0"}


def _view(topics: list[tuple[str, bytes, int]]) -> ClusterView:
    infos = {
        name: TopicInfo(
            name, topic_id, tuple(PartitionInfo(i, 0, 0, (0,), (0,)) for i in range(count))
        )
        for name, topic_id, count in topics
    }
    return ClusterView(0, "cluster", 0, {}, infos, {i.topic_id: n for n, i in infos.items()})


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured["group"])
def test_as_captured(captured: dict[str, Any]) -> None:
    group = captured["group"]
    topics = [
        (name, bytes.fromhex(topic_id), count) for name, topic_id, count in captured["topics"]
    ]
    view = _view(topics)
    machine = GroupMachine(
        0, VirtualTimers(lambda _: None), BrokerConfig(SETTINGS), lambda: view, str
    )
    numbers = {topic_id: number for number, (_, topic_id, _) in enumerate(topics)}
    for number, (member, epoch, wanted, expected_epoch, expected) in enumerate(captured["steps"]):
        names = None if wanted is None else [topics[at][0] for at in wanted]
        request = ShareGroupHeartbeatRequest(group, member, epoch, None, names)
        caller = Caller("c", "/h", 1)
        outcome = machine.share.heartbeat(request, caller, Waiting(str), 1)
        for record in outcome.records:
            machine.replay(*record, -1, -1, 0)
        for work in outcome.work:
            for record in machine.share.states.initialized(group, work.offsets).records:
                machine.replay(*record, -1, -1, 0)
        ((_, answer),) = outcome.replies
        given = None
        if answer.assignment is not None:
            given = sorted(
                [numbers[part.topic_id], sorted(part.partitions)]
                for part in answer.assignment.topic_partitions
            )
        assert (answer.member_epoch, given) == (expected_epoch, expected), f"step {number}"
