"""Gaps in a producer's sequence at a leader that others may have replaced, or that has just begun.

Apache Kafka says OUT_OF_ORDER_SEQUENCE_NUMBER at once; librdkafka then begins anew under another
epoch, and aiokafka gives the records up.
"""

from broker.cluster.store import SessionEvent
from broker.context import Context
from broker.handlers.produce import begin
from broker.replicas import NEW_LEADER_MS
from protocol.errors import ErrorCode
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.kit.hosted import OTHER, HostedNode
from tests.kit.wire import batch, decode_answer, frame

BROKEN = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
NOT_LEADER = ErrorCode.NOT_LEADER_OR_FOLLOWER
VERSION = 12


class Led(HostedNode):
    """Partition t-0 with a replica elsewhere, and one producer's batches 0, 1, ... to it."""

    def __init__(self, leader_epoch: int = 3) -> None:
        super().__init__()
        self.leader_epoch = leader_epoch
        self._tell()
        assert self.produce(0) == ErrorCode.NONE

    def _tell(self) -> None:
        self.host("t", leader_epoch=self.leader_epoch, replicas=(OTHER,))

    def tell(self) -> None:
        """It leads on, in another epoch."""
        self.leader_epoch += 1
        self._tell()

    def pass_time(self) -> None:
        self.clock.ms += NEW_LEADER_MS

    def produce(self, sequence: int) -> ErrorCode:
        records = batch(
            [b"v"],
            timestamp=self.clock.now_ms(),
            producer_id=7,
            producer_epoch=0,
            base_sequence=sequence,
        )
        topic = TopicProduceData("t", partition_data=[PartitionProduceData(0, records)])
        data = memoryview(bytearray(frame(ProduceRequest(None, 1, 1000, [topic]), VERSION)[4:]))
        call = begin(self.node, Context("c", "PLAINTEXT", "h"), data, VERSION)
        self.replicas.write_staged()
        answer = call.answer()
        assert answer is not None
        _, decoded = decode_answer(0, VERSION, answer[4:])
        (result,) = decoded.responses[0].partition_responses
        return ErrorCode(result.error_code)


def test_a_new_leader_asks_for_what_it_may_have_refused() -> None:
    led = Led()
    assert led.produce(2) == NOT_LEADER
    assert (led.produce(1), led.produce(2)) == (ErrorCode.NONE, ErrorCode.NONE)


def test_a_gap_that_stays_is_one() -> None:
    led = Led()
    led.pass_time()
    assert led.produce(2) == BROKEN
    led.tell()
    assert led.produce(2) == BROKEN


def test_the_first_leader_has_refused_nobody() -> None:
    assert Led(leader_epoch=0).produce(2) == BROKEN


def test_a_leader_without_a_session_does_not_judge() -> None:
    led = Led()
    led.pass_time()
    led.replicas.on_session(SessionEvent.SUSPENDED)
    assert led.produce(2) == NOT_LEADER
    led.replicas.on_session(SessionEvent.RECONNECTED)
    assert led.produce(2) == BROKEN


def test_in_a_new_session_it_waits_for_the_controller() -> None:
    led = Led()
    led.pass_time()
    for event in (SessionEvent.SUSPENDED, SessionEvent.EXPIRED, SessionEvent.CONNECTED):
        led.replicas.on_session(event)
        assert led.produce(2) == NOT_LEADER
    led.tell()
    assert led.produce(2) == BROKEN
    assert led.produce(1) == ErrorCode.NONE
