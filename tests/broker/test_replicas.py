"""Roles of hosted partitions, on real logs."""

from broker.partition import Partition
from broker.replicas import Alone
from protocol import batch
from protocol.record import Record
from tests.kit.hosted import OTHER, HostedNode


class Followed(Alone):
    """Writes down where each log ended when its partition began to follow."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}

    def follow(self, partition: Partition) -> None:
        assert partition.log is not None
        self.ends[partition.index] = partition.log.end_offset


class Woken:
    """A connection that is answered and has another batch for a partition at hand."""

    def __init__(self, hosted: HostedNode, index: int) -> None:
        self._hosted = hosted
        self._index = index

    def wake(self) -> None:
        hosted = self._hosted
        data = bytearray(batch.build([Record(0, 1, None, b"v", ())]))
        hosted.replicas.stage(
            hosted.partition("t", self._index), memoryview(data), hosted.clock.now_ms()
        )


async def test_what_is_staged_while_others_resign_is_written_before_a_partition_follows() -> None:
    """Written later, it would lie behind the offset from which the leader is asked, under an epoch
    that is over."""
    hosted = HostedNode()
    hosted.host("t", 2)
    followed = hosted.replicas.replication = Followed()
    hosted.partition("t", 0).add_waiter(Woken(hosted, 1))
    hosted.host("t", leader=OTHER, leader_epoch=1)
    later = hosted.partition("t", 1)
    assert later.log is not None
    assert (followed.ends, later.log.end_offset, later.dirty) == ({0: 0, 1: 1}, 1, False)
