"""Fetch's hand-written answer against the compiled codec, every version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.fetch_wire import PartitionAnswer, encode_response
from broker.sessions import FetchedPartition
from protocol.compiler import encoder
from protocol.messages.fetch import (
    AbortedTransaction,
    EpochEndOffset,
    FetchableTopicResponse,
    FetchResponse,
    PartitionData,
)
from storage.filesystem import MemoryFileSystem
from storage.log import LogSlice
from tests.kit.strategies import profile

OFFSETS = st.integers(-1, 1 << 60)
PARTITIONS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "été"]),
        st.integers(0, 9),
        st.integers(-1, 133),
        OFFSETS,
        OFFSETS,
        OFFSETS,
        st.none() | st.lists(st.tuples(OFFSETS, OFFSETS), max_size=2),
        st.none() | st.tuples(st.integers(0, 9), OFFSETS),
        st.binary(max_size=200),
        st.booleans(),
    ),
    max_size=5,
)


def slice_of(data: bytes) -> LogSlice:
    file = MemoryFileSystem().open("/f", create=True)
    file.append([b"before" + data + b"after"])
    return LogSlice(file, 6, len(data), 0)


@pytest.mark.parametrize("version", range(19))
@profile(40)
@given(rows=PARTITIONS, error=st.integers(0, 99), session=st.integers(0, 1 << 30))
def test_pieces_join_to_what_the_compiled_codec_writes(
    version: int, rows: list[tuple[object, ...]], error: int, session: int
) -> None:
    declared = FetchResponse(error_code=error, session_id=session if version >= 7 else 0)
    answers = []
    for name, index, code, high, stable, start, aborted, diverging, data, in_file in rows:
        if version < 12:
            diverging = None
        topic_id = str(name).encode().ljust(16, b"x")
        answer = PartitionAnswer(FetchedPartition(name, topic_id, index, 0, 1))  # type: ignore[arg-type]
        answer.error_code, answer.high_watermark = code, high  # type: ignore[assignment]
        answer.last_stable_offset, answer.log_start_offset = stable, start  # type: ignore[assignment]
        answer.aborted, answer.diverging_epoch = aborted, diverging  # type: ignore[assignment]
        answer.records = slice_of(data) if in_file and data else data  # type: ignore[arg-type, assignment]
        answers.append(answer)
        if not declared.responses or declared.responses[-1].topic != name:
            declared.responses.append(FetchableTopicResponse(topic=name, topic_id=topic_id))  # type: ignore[arg-type]
        declared.responses[-1].partitions.append(
            PartitionData(
                partition_index=index,  # type: ignore[arg-type]
                error_code=code,  # type: ignore[arg-type]
                high_watermark=high,  # type: ignore[arg-type]
                last_stable_offset=stable,  # type: ignore[arg-type]
                log_start_offset=start,  # type: ignore[arg-type]
                aborted_transactions=None
                if aborted is None
                else [AbortedTransaction(producer_id=p, first_offset=f) for p, f in aborted],  # type: ignore[attr-defined]
                diverging_epoch=EpochEndOffset(*diverging) if diverging else EpochEndOffset(),  # type: ignore[misc]
                records=data,  # type: ignore[arg-type]
            )
        )
    expected = bytearray(b"\0\0\0\x09")
    if version >= 12:
        expected.append(0)
    encoder(FetchResponse, version)(declared, expected)
    pieces = encode_response(version, 9, error, session, answers)
    joined = b"".join(p.bytes() if isinstance(p, LogSlice) else p for p in pieces)
    assert joined == len(expected).to_bytes(4, "big") + expected
