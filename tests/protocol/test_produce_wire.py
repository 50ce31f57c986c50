"""Produce's hand-written codec against the compiled one, every version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.compiler import decoder, encoder
from protocol.errors import Malformed
from protocol.header import decode_request_header
from protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from protocol.produce_wire import (
    PartitionResult,
    decode_request,
    encode_response,
    read_one,
    write_one,
)
from tests.kit.strategies import profile, values
from tests.kit.wire import frame as wire_frame

VERSIONS = range(14)


@pytest.mark.parametrize("version", VERSIONS)
@profile(40)
@given(data=st.data())
def test_requests_read_alike(version: int, data: st.DataObject) -> None:
    request = data.draw(values(ProduceRequest, version))
    out = bytearray(b"head")
    encoder(ProduceRequest, version)(request, out)
    expected, end = decoder(ProduceRequest, version)(bytes(out), 4)
    assert end == len(out)
    transactional_id, acks, timeout_ms, topics = decode_request(memoryview(out), 4, version)
    assert transactional_id == expected.transactional_id
    assert (acks, timeout_ms) == (expected.acks, expected.timeout_ms)
    assert [
        (name, topic_id, [(i, None if r is None else bytes(r)) for i, r in partitions])
        for _, name, topic_id, partitions in topics
    ] == [
        (
            t.name,
            t.topic_id,
            [(p.index, None if p.records is None else bytes(p.records)) for p in t.partition_data],
        )
        for t in expected.topic_data
    ]


@pytest.mark.parametrize("version", VERSIONS)
@profile(40)
@given(data=st.data())
def test_damaged_requests_are_malformed_for_both(version: int, data: st.DataObject) -> None:
    request = data.draw(values(ProduceRequest, version))
    out = bytearray()
    encoder(ProduceRequest, version)(request, out)
    out = out[: data.draw(st.integers(0, len(out)))]
    if out:
        out[data.draw(st.integers(0, len(out) - 1))] = data.draw(st.integers(0, 255))

    def reads(read: object) -> bool:
        try:
            read()  # type: ignore[operator]
        except Malformed:
            return False
        return True

    by_hand = reads(lambda: decode_request(memoryview(out), 0, version))
    assert by_hand == reads(lambda: decoder(ProduceRequest, version)(bytes(out), 0))


MESSAGES = st.none() | st.text(max_size=9)
RESULTS = st.tuples(
    st.integers(0, 9),
    st.integers(-1, 133),
    st.integers(-1, 1 << 50),
    st.integers(-1, 1 << 50),
    st.integers(-1, 1 << 50),
    st.none() | st.lists(st.tuples(st.integers(0, 9), MESSAGES), max_size=2),
    MESSAGES,
    st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
ENDPOINTS = st.tuples(st.integers(0, 9), st.text(max_size=5), st.integers(0, 99), MESSAGES)


@pytest.mark.parametrize("version", VERSIONS)
@profile(40)
@given(
    topics=st.lists(
        st.tuples(st.text(max_size=5), st.binary(min_size=16, max_size=16), st.lists(RESULTS)),
        max_size=3,
    ),
    endpoints=st.lists(ENDPOINTS, max_size=2),
)
def test_answers_are_written_alike(
    version: int,
    topics: list[tuple[str, bytes, list[tuple[object, ...]]]],
    endpoints: list[tuple[int, str, int, str | None]],
) -> None:
    tells_leaders = version >= 10
    endpoints = endpoints if tells_leaders else []
    declared = ProduceResponse(node_endpoints=[NodeEndpoint(*one) for one in endpoints])
    by_hand = []
    for name, topic_id, rows in topics:
        topic = TopicProduceResponse(name=name, topic_id=topic_id)
        raw = bytearray()
        if version >= 13:
            raw += topic_id
        elif version >= 9:
            raw += bytes([len(name.encode()) + 1]) + name.encode()
        else:
            raw += len(name.encode()).to_bytes(2, "big") + name.encode()
        results = []
        for index, code, base, appended, start, errors, message, leader in rows:
            result = PartitionResult(index)  # type: ignore[arg-type]
            result.error_code = code  # type: ignore[assignment]
            result.base_offset = base  # type: ignore[assignment]
            result.log_append_time_ms = appended  # type: ignore[assignment]
            result.log_start_offset = start  # type: ignore[assignment]
            result.record_errors = errors  # type: ignore[assignment]
            result.error_message = message  # type: ignore[assignment]
            if tells_leaders:
                result.current_leader = leader  # type: ignore[assignment]
            results.append(result)
            topic.partition_responses.append(
                PartitionProduceResponse(
                    index=result.index,
                    error_code=result.error_code,
                    base_offset=result.base_offset,
                    log_append_time_ms=result.log_append_time_ms,
                    log_start_offset=result.log_start_offset,
                    record_errors=[
                        BatchIndexAndErrorMessage(batch_index=i, batch_index_error_message=m)
                        for i, m in result.record_errors or ()
                    ],
                    error_message=result.error_message,
                    current_leader=LeaderIdAndEpoch(*(result.current_leader or (-1, -1))),
                )
            )
        declared.responses.append(topic)
        by_hand.append((bytes(raw), results))
    expected = bytearray(b"\0\0\0\x07")
    if version >= 9:
        expected.append(0)
    encoder(ProduceResponse, version)(declared, expected)
    out = bytearray()
    encode_response(out, 7, version, by_hand, endpoints)
    assert out == expected


@pytest.mark.parametrize("version", range(9, 13))
@profile(60)
@given(
    name=st.text(max_size=60),
    acks=st.integers(-2, 2),
    timeout_ms=st.integers(0, 1 << 30),
    index=st.integers(-1, 9),
    records=st.binary(max_size=300),
    client_id=st.none() | st.text(max_size=9),
    transactional_id=st.none() | st.text(max_size=40),
    damage=st.none() | st.tuples(st.integers(4, 500), st.integers(0, 255)),
)
def test_the_short_reader_reads_what_the_long_one_does(
    version: int,
    name: str,
    acks: int,
    timeout_ms: int,
    index: int,
    records: bytes,
    client_id: str | None,
    transactional_id: str | None,
    damage: tuple[int, int] | None,
) -> None:
    data = PartitionProduceData(index=index, records=records)
    topic = TopicProduceData(name=name, partition_data=[data])
    request = ProduceRequest(transactional_id, acks, timeout_ms, [topic])
    frame = bytearray(wire_frame(request, version, 77, client_id)[4:])
    if damage is not None and damage[0] < len(frame):
        frame[damage[0]] = damage[1]
    one = read_one(memoryview(frame))
    if damage is None:
        assert (
            one is not None or max(len(name.encode()), len((transactional_id or "").encode())) > 126
        )
    if one is None:
        return
    header, pos = decode_request_header(frame)
    long_id, *rest, topics = decode_request(memoryview(frame), pos, version)
    ((raw, long_name, _, ((long_index, long_records),)),) = topics
    assert long_records is not None
    number = header.correlation_id
    assert one == (number, *rest, raw, long_name, long_index, long_records, long_id is not None)
    answer = PartitionResult(long_index)
    answer.base_offset, answer.log_append_time_ms, answer.log_start_offset = 5, -1, 2
    out = bytearray(4)
    encode_response(out, header.correlation_id, version, [(raw, [answer])])
    out[:4] = (len(out) - 4).to_bytes(4, "big")
    assert write_one(header.correlation_id, raw, long_index, 5, -1, 2) == out
