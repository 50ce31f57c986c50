"""ShareFetch's hand-written encoder against the declaration."""

import random
from typing import Any

import pytest

from broker.shares.acquire import Acquired
from broker.shares.fetch_wire import Answer, encode_response
from protocol.messages import share_fetch as wire
from storage.filesystem import MemoryFileSystem
from storage.log import LogSlice
from tests.kit.wire import decode_answer

DATA = bytes(range(256)) * 8


@pytest.fixture
def stored() -> Any:
    fs = MemoryFileSystem()
    fs.mkdir("/d")
    file = fs.open("/d/file", create=True)
    file.append([DATA])
    return file


def declared(answers: list[Answer], endpoints: list[Any], **fields: Any) -> wire.ShareFetchResponse:
    topics: dict[bytes, wire.ShareFetchableTopicResponse] = {}
    for a in answers:
        records = b"" if a.records is None else a.records.bytes()
        row = wire.PartitionData(
            a.index,
            a.error,
            None,
            a.ack_error,
            a.ack_message,
            wire.LeaderIdAndEpoch(*a.leader),
            records,
            [wire.AcquiredRecords(*one) for one in a.acquired],
        )
        topic = topics.setdefault(a.topic_id, wire.ShareFetchableTopicResponse(a.topic_id))
        topic.partitions.append(row)
    return wire.ShareFetchResponse(
        responses=list(topics.values()),
        node_endpoints=[wire.NodeEndpoint(*one) for one in endpoints],
        **fields,
    )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(12))
def test_as_declared(stored: Any, version: int, seed: int) -> None:
    chosen = random.Random(seed)
    answers = []
    for number in range(chosen.randrange(6)):
        answer = Answer(bytes([chosen.randrange(2)]) * 16, number)
        if chosen.random() < 0.6:
            length = chosen.choice((1, 50, 126, 127, 128, 1000))
            answer.records = LogSlice(stored, chosen.randrange(1000), length, 0)
            answer.acquired = [
                Acquired(at, at + chosen.randrange(9), chosen.randrange(1, 5))
                for at in range(chosen.choice((1, 2, 130)))
            ]
        else:
            answer.error = chosen.choice((0, 3, 6))
            answer.leader = (chosen.randrange(-1, 4), chosen.randrange(-1, 9))
        if chosen.random() < 0.5:
            answer.ack_error = chosen.choice((0, 42, 121))
            answer.ack_message = chosen.choice((None, "", "sentence", "ü" * 70))
        answers.append(answer)
    endpoints = [(1, "host", 9092, None), (2, "ein-anderer", 9093, "rack")][: chosen.randrange(3)]
    error = chosen.choice((0, 122))
    message = chosen.choice((None, "sentence"))
    pieces = encode_response(77, error, 30_000, answers, endpoints, message=message)
    data = b"".join(p if isinstance(p, bytes) else p.bytes() for p in pieces)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    correlation_id, seen = decode_answer(78, version, data[4:])
    assert correlation_id == 77
    for topic in seen.responses:
        for row in topic.partitions:
            row.records = bytes(row.records)
    expected = declared(answers, endpoints, acquisition_lock_timeout_ms=30_000)
    expected.error_code, expected.error_message = error, message
    assert seen == expected
    # No record was copied into the bytes between.
    assert sum(isinstance(piece, LogSlice) for piece in pieces) == sum(
        answer.records is not None for answer in answers
    )
