"""Members of consumer groups (classic protocol), and workers that consume, transform and produce in
transactions: each record of the source is put out once."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from protocol.batch import TRANSACTIONAL
from protocol.errors import ErrorCode
from protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
)
from protocol.messages.end_txn import EndTxnRequest
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.heartbeat import HeartbeatRequest
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestTopic
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from protocol.stored.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    TopicPartition,
    decode_assignment,
)
from protocol.stored.versioned import encode_value
from tests.kit.wire import batch
from tests.sim.clients import GONE, LATER, MOVED, TIMEOUT_S, Client
from tests.sim.history import History, Key, LogRecord, Sent, records_in

if TYPE_CHECKING:
    from tests.sim.world import World

E = ErrorCode
GROUP, TRANSACTION = 0, 1
SESSION_MS, REBALANCE_MS = 3000, 4000
TRANSACTION_MS = 8000
PATIENCE_S = 8.0
"""How long a coordinator is looked for before whatever is under way is given up."""
ABORTED = 0.15
"""Share of transactions that are aborted for no reason."""
FIND_COORDINATOR, JOIN, SYNC, HEARTBEAT = 3, 5, 3, 3
OFFSET_COMMIT, OFFSET_FETCH, ADD_PARTITIONS, ADD_OFFSETS = 7, 7, 3, 3
MOVED_COORDINATOR = frozenset((GONE, E.NOT_COORDINATOR, E.COORDINATOR_NOT_AVAILABLE))
BUSY = frozenset(
    (
        E.COORDINATOR_LOAD_IN_PROGRESS,
        E.CONCURRENT_TRANSACTIONS,
        E.UNSTABLE_OFFSET_COMMIT,
        E.NOT_ENOUGH_REPLICAS,
        E.REQUEST_TIMED_OUT,
    )
)
"""Ask again."""
NOT_TOLD = BUSY | {E.UNKNOWN_TOPIC_OR_PARTITION}
"""The same for requests that name partitions: a broker that has just begun knows of none until the
controller tells it, and checks them before it says that it coordinates nothing. Stock clients ask
again; of a request without partitions the code would be wrong."""
Code = Callable[[Any], int]
"""The error code of an answer that counts."""


class GaveUp(Exception):
    """No coordinator in time, or it refuses: what is under way begins anew."""


def worst_row(answer: Any) -> int:
    """The code of an answer that has one for each partition."""
    return max(row.error_code for topic in answer.topics for row in topic.partitions)


def _top(answer: Any) -> int:
    code: int = answer.error_code
    return code


class Member(Client):
    """Reads its share of a topic, commits what it has read, follows rebalances."""

    def __init__(
        self,
        world: "World",
        history: History,
        number: int,
        group: str,
        keys: Sequence[Key],
    ) -> None:
        super().__init__(world, history, number, f"{group}-{number}")
        self.group = group
        self.keys = list(keys)
        self._forget()

    def _forget(self) -> None:
        self.member_id = ""
        self.generation = -1
        self.assigned: list[Key] = []
        self.positions: dict[Key, int] = {}
        self._coordinators: dict[tuple[int, str], int] = {}

    async def run(self) -> None:
        self._forget()
        while True:
            try:
                await self._prepare()
                if await self._join():
                    await self._serve()
            except GaveUp:
                await self.pause()

    async def _prepare(self) -> None:
        """Before a group is joined."""

    # --- coordinators

    async def coordinated(
        self,
        kind: int,
        key: str,
        request: Any,
        version: int,
        code_of: Code = _top,
        timeout_s: float = TIMEOUT_S,
        busy: Collection[int] = BUSY,
    ) -> Any:
        """The coordinator's answer, wherever it has moved; after the codes `busy` the same one is
        asked again. Raises GaveUp."""
        end = self.world.loop.time() + PATIENCE_S
        while self.world.loop.time() < end:
            node = self._coordinators.get((kind, key))
            if node is None:
                await self._find(kind, key)
                continue
            lane = f"coordinator {kind}"
            answer = await self.call(node, request, version, lane=lane, timeout_s=timeout_s)
            code = GONE if answer is None else code_of(answer)
            if code in MOVED_COORDINATOR:
                self._coordinators.pop((kind, key), None)
            elif code not in busy:
                return answer
            await self.pause()
        raise GaveUp

    async def _find(self, kind: int, key: str) -> None:
        node = self.world.chance.randrange(len(self.world.nodes))
        answer = await self.call(node, FindCoordinatorRequest(key, kind), FIND_COORDINATOR)
        if answer is not None and answer.error_code == E.NONE:
            self._coordinators[kind, key] = answer.node_id
        else:
            await self.pause()

    # --- membership

    async def _join(self) -> bool:
        """Join and sync; whether this member belongs to a generation now."""
        about = encode_value(ConsumerProtocolSubscription([self.keys[0][0]]), 1)
        request = JoinGroupRequest(
            self.group,
            SESSION_MS,
            REBALANCE_MS,
            self.member_id,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol("range", about)],
        )
        wait_s = TIMEOUT_S + REBALANCE_MS / 1000
        answer = await self.coordinated(GROUP, self.group, request, JOIN, timeout_s=wait_s)
        if answer.error_code == E.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            return False
        if answer.error_code != E.NONE:
            self._left(answer.error_code)
            return False
        self.member_id, self.generation = answer.member_id, answer.generation_id
        shares = []
        if answer.leader == self.member_id:
            shares = self._share_out(sorted(m.member_id for m in answer.members))
        sync = SyncGroupRequest(self.group, self.generation, self.member_id, assignments=shares)
        answer = await self.coordinated(GROUP, self.group, sync, SYNC, timeout_s=wait_s)
        if answer.error_code != E.NONE:
            self._left(answer.error_code)
            return False
        self.assigned = [
            (topic.topic, index)
            for topic in decode_assignment(answer.assignment).assigned_partitions
            for index in topic.partitions
        ]
        for key in self.assigned:
            self.history.owns(self.group, self.generation, key, self.member_id)
        return True

    def _left(self, code: int) -> None:
        if code in (E.UNKNOWN_MEMBER_ID, E.FENCED_INSTANCE_ID):
            self.member_id = ""
        elif code not in (E.REBALANCE_IN_PROGRESS, E.ILLEGAL_GENERATION):
            self.blame(f"the group is refused: error {code}")

    def _share_out(self, members: list[str]) -> list[SyncGroupRequestAssignment]:
        """Who gets what, by the leader."""
        shares = []
        for place, member in enumerate(members):
            mine = [index for _, index in self.keys if index % len(members) == place]
            topics = [TopicPartition(self.keys[0][0], mine)] if mine else []
            blob = encode_value(ConsumerProtocolAssignment(topics), 1)
            shares.append(SyncGroupRequestAssignment(member, blob))
        return shares

    async def _still_in(self) -> bool:
        """Heartbeat; False when the member has to join again."""
        request = HeartbeatRequest(self.group, self.generation, self.member_id)
        answer = await self.coordinated(GROUP, self.group, request, HEARTBEAT)
        if answer.error_code != E.NONE:
            self._left(answer.error_code)
        return bool(answer.error_code == E.NONE)

    # --- offsets

    async def _go_back(self) -> None:
        """To the committed offsets."""
        if not self.assigned:
            return
        known = {key: self.history.commits.get((self.group, key), 0) for key in self.assigned}
        topics = [OffsetFetchRequestTopic(self.keys[0][0], [index for _, index in self.assigned])]
        request = OffsetFetchRequest(self.group, topics, require_stable=True)

        def code_of(answer: Any) -> int:
            rows = [row for topic in answer.topics for row in topic.partitions]
            return answer.error_code or max((row.error_code for row in rows), default=0)

        answer = await self.coordinated(GROUP, self.group, request, OFFSET_FETCH, code_of)
        if code_of(answer) != E.NONE:
            self.blame(f"offsets are refused: error {code_of(answer)}")
            raise GaveUp
        for row in answer.topics[0].partitions:
            key = self.keys[0][0], row.partition_index
            offset = max(row.committed_offset, 0)
            self.history.resumes(self.group, key, offset, known[key])
            self.history.committed(self.group, key, offset)
            self.positions[key] = offset
            if row.committed_leader_epoch > self.leaders.get(key, (-1, -1))[1]:
                # A leader before that one may not have what was read (KIP-320).
                self.leaders[key] = -1, row.committed_leader_epoch

    # --- work

    async def _serve(self) -> None:
        await self._go_back()
        while await self._still_in():
            read = {key: await self._some(key) for key in self.assigned}
            found = {key: records for key, records in read.items() if records}
            if not found:
                await self.pause(0.2)
            elif not await self._done_with(found):
                return

    async def _some(self, key: Key) -> list[LogRecord]:
        """Some records from the position on."""
        leader = await self.leader(key)
        if leader < 0:
            return []
        position, epoch = self.positions[key], self.leaders[key][1]
        row = await self.fetch(key, leader, epoch, position)
        if row is None or row.error_code in MOVED or row.error_code in LATER:
            self.lost_leader(key)
            return []
        if row.error_code != E.NONE:
            self.blame(f"{key} at {position}: error {row.error_code}")
            raise GaveUp
        records = [r for r in records_in(bytes(row.records or b"")) if r.offset >= position]
        for record in records:
            self.history.was_read(self.name, key, record.offset, record.value)
        return records

    async def _done_with(self, found: Mapping[Key, list[LogRecord]]) -> bool:
        """Commit what was read; False when the member has to join again."""
        lasts = {key: records[-1] for key, records in found.items()}
        rows = [
            OffsetCommitRequestPartition(key[1], last.offset + 1, last.leader_epoch)
            for key, last in lasts.items()
        ]
        request = OffsetCommitRequest(
            self.group,
            self.generation,
            self.member_id,
            topics=[OffsetCommitRequestTopic(self.keys[0][0], partitions=rows)],
        )

        answer = await self.coordinated(
            GROUP, self.group, request, OFFSET_COMMIT, worst_row, busy=NOT_TOLD
        )
        if worst_row(answer) != E.NONE:
            self._left(worst_row(answer))
            return False
        self._came_to(lasts)
        return True

    def _came_to(self, lasts: Mapping[Key, LogRecord]) -> None:
        """These records are the last ones that were committed."""
        for key, last in lasts.items():
            self.history.committed(self.group, key, last.offset + 1)
            self.positions[key] = last.offset + 1


class Worker(Member):
    """Puts each record of its share out to another topic, in transactions with the offsets.

    `style` 2 goes by transactions of version 2 (KIP-890): partitions join by being written to, and
    each transaction has an epoch of its own.
    """

    def __init__(
        self,
        world: "World",
        history: History,
        number: int,
        group: str,
        keys: Sequence[Key],
        output: Sequence[Key],
        style: int,
    ) -> None:
        super().__init__(world, history, number, group, keys)
        self.output = list(output)
        self.style = style
        self.pid = -1
        self.epoch = -1
        self._sequences: dict[Key, int] = {}

    async def _prepare(self) -> None:
        """The name is this worker's over all its lives: the one before is fenced."""
        request = InitProducerIdRequest(self.name, TRANSACTION_MS)
        answer = await self.coordinated(TRANSACTION, self.name, request, 4)
        if answer.error_code != E.NONE:
            if answer.error_code not in (E.PRODUCER_FENCED, E.INVALID_PRODUCER_EPOCH):
                self.blame(f"no producer id: error {answer.error_code}")
            raise GaveUp
        self._producer(answer.producer_id, answer.producer_epoch)

    def _producer(self, pid: int, epoch: int) -> None:
        if (pid, epoch) != (self.pid, self.epoch):
            self._sequences.clear()
        self.pid, self.epoch = pid, epoch

    async def _done_with(self, found: Mapping[Key, list[LogRecord]]) -> bool:
        commit = self.world.chance.random() >= ABORTED
        for number, (key, records) in enumerate(found.items()):
            target = self.output[(key[1] + number) % len(self.output)]
            await self._put_out(key, records, target)
        lasts = {key: records[-1] for key, records in found.items()}
        await self._add_offsets(lasts)
        await self._end(commit)
        if commit:
            self._came_to(lasts)
        return True  # what was aborted is read again

    async def _in_transaction(
        self,
        request: Any,
        version: int,
        code_of: Code = _top,
        busy: Collection[int] = BUSY,
    ) -> Any:
        answer = await self.coordinated(
            TRANSACTION, self.name, request, version, code_of, busy=busy
        )
        if code_of(answer) != E.NONE:
            raise GaveUp
        return answer

    async def _put_out(self, source: Key, records: list[LogRecord], target: Key) -> None:
        if self.style == 1:
            topics = [AddPartitionsToTxnTopic(target[0], [target[1]])]
            request = AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=self.name,
                v3_and_below_producer_id=self.pid,
                v3_and_below_producer_epoch=self.epoch,
                v3_and_below_topics=topics,
            )
            await self._in_transaction(
                request,
                ADD_PARTITIONS,
                lambda answer: (
                    answer.results_by_topic_v3_and_below[0]
                    .results_by_partition[0]
                    .partition_error_code
                ),
                NOT_TOLD,
            )
        sequence = self._sequences.get(target, 0)
        values = [Sent(f"{source[0]}-{source[1]}", record.offset).value for record in records]
        data = batch(
            values,
            timestamp=self.clock.now_ms(),
            producer_id=self.pid,
            producer_epoch=self.epoch,
            base_sequence=sequence,
            attributes=TRANSACTIONAL,
        )
        await self._produce(target, data)
        self._sequences[target] = sequence + len(values)

    async def _produce(self, target: Key, data: bytes) -> None:
        """Until it is acknowledged. Raises GaveUp."""
        part = [PartitionProduceData(target[1], data)]
        request = ProduceRequest(
            self.name, -1, 2000, [TopicProduceData(target[0], partition_data=part)]
        )
        end = self.world.loop.time() + PATIENCE_S
        while self.world.loop.time() < end:
            leader = await self.leader(target)
            answer = None
            if leader >= 0:
                answer = await self.call(leader, request, 12 if self.style == 2 else 9)
            code = GONE
            if answer is not None:
                code = answer.responses[0].partition_responses[0].error_code
            if code in (E.NONE, E.DUPLICATE_SEQUENCE_NUMBER):
                return
            if code == GONE or code in MOVED:
                self.lost_leader(target)
            elif code not in LATER and code not in (
                E.CONCURRENT_TRANSACTIONS,
                E.NOT_COORDINATOR,
                E.COORDINATOR_NOT_AVAILABLE,
                E.NETWORK_EXCEPTION,
            ):
                raise GaveUp
            await self.pause()
        raise GaveUp

    async def _add_offsets(self, lasts: Mapping[Key, LogRecord]) -> None:
        if self.style == 1:
            add = AddOffsetsToTxnRequest(self.name, self.pid, self.epoch, self.group)
            await self._in_transaction(add, ADD_OFFSETS)
        rows = [
            TxnOffsetCommitRequestPartition(key[1], last.offset + 1, last.leader_epoch)
            for key, last in lasts.items()
        ]
        request = TxnOffsetCommitRequest(
            self.name,
            self.group,
            self.pid,
            self.epoch,
            self.generation,
            self.member_id,
            topics=[TxnOffsetCommitRequestTopic(self.keys[0][0], partitions=rows)],
        )

        version = 5 if self.style == 2 else 3
        answer = await self.coordinated(
            GROUP, self.group, request, version, worst_row, busy=NOT_TOLD
        )
        if worst_row(answer) != E.NONE:
            raise GaveUp

    async def _end(self, commit: bool) -> None:
        request = EndTxnRequest(self.name, self.pid, self.epoch, commit)
        answer = await self._in_transaction(request, 5 if self.style == 2 else 3)
        if self.style == 2:
            self._producer(answer.producer_id, answer.producer_epoch)
