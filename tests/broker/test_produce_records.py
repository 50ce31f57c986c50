"""What a partition's records in a Produce request may be besides one batch."""

from collections.abc import Iterator

import pytest

from protocol.errors import ErrorCode
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.kit.threaded import ThreadedBroker
from tests.kit.wire import Wire, batch

ONE = batch([b"a"], timestamp=1_700_000_000_000)
NO_MAGIC = ONE[:16] + b"\x09" + ONE[17:]
TOO_SHORT = ONE[:8] + (13).to_bytes(4, "big") + ONE[12:]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with ThreadedBroker({"t": 1}) as broker, Wire(broker.bootstrap) as client:
        yield client


@pytest.mark.parametrize("acks", [1, 7])
@pytest.mark.parametrize(
    ("rest", "code"),
    [
        (ONE, ErrorCode.INVALID_RECORD),
        (TOO_SHORT, ErrorCode.CORRUPT_MESSAGE),
        (NO_MAGIC, ErrorCode.CORRUPT_MESSAGE),
        (NO_MAGIC[:30], ErrorCode.CORRUPT_MESSAGE),
        (NO_MAGIC[:16], None),
        (ONE[:30], None),
    ],
    ids=["batch", "short", "no magic", "no magic, torn", "up to the magic", "torn"],
)
def test_what_follows_the_batch(wire: Wire, rest: bytes, code: ErrorCode | None, acks: int) -> None:
    """It is looked at before the acks; a begin that may be that of a batch is passed over."""
    data = PartitionProduceData(index=0, records=memoryview(ONE + rest))
    topic = TopicProduceData(name="t", partition_data=[data])
    answer = wire.call(ProduceRequest(acks=acks, timeout_ms=5000, topic_data=[topic]), 9)
    passed = ErrorCode.NONE if acks == 1 else ErrorCode.INVALID_REQUIRED_ACKS
    (result,) = answer.responses[0].partition_responses
    assert result.error_code == (passed if code is None else code)
