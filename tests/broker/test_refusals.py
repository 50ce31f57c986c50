"""Every offered API can answer a failure of the whole request, at every version."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.handlers import HANDLERS
from broker.refusals import refusal
from protocol.apis import API_BY_KEY, request_class, response_class
from protocol.compiler import decoder, encoder
from protocol.errors import ErrorCode
from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.delete_topics import DeleteTopicsRequest
from protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from tests.kit.strategies import profile, values

FAILED = ErrorCode.UNKNOWN_SERVER_ERROR
OFFERED = [
    (api.key, version)
    for api in API_BY_KEY.values()
    if api.stem in HANDLERS
    for version in range(api.min_version, api.latest_stable + 1)
]


@pytest.mark.parametrize(("key", "version"), OFFERED)
@profile(8)
@given(data=st.data())
def test_any_request_can_be_answered(key: int, version: int, data: st.DataObject) -> None:
    request = data.draw(values(request_class(key), version))
    answer = refusal(response_class(key), version, request, FAILED, "why")
    out = bytearray()
    encoder(response_class(key), version)(answer, out)
    assert decoder(response_class(key), version)(bytes(out), 0)[1] == len(out)


def refused(request: Any, version: int) -> Any:
    answer = refusal(response_class(request.API_KEY), version, request, FAILED, "why")
    encoder(type(answer), version)(answer, bytearray())
    return answer


def test_items_are_told_by_the_name_they_were_asked_by() -> None:
    topics = [CreatableTopic(name="a"), CreatableTopic(name="b")]
    answer = refused(CreateTopicsRequest(topics=topics), 7)
    assert [(t.name, t.error_code, t.error_message) for t in answer.topics] == [
        ("a", -1, "why"),
        ("b", -1, "why"),
    ]
    answer = refused(DeleteTopicsRequest(topic_names=["x"]), 5)
    assert [(t.name, t.error_code) for t in answer.responses] == [("x", -1)]
    answer = refused(FindCoordinatorRequest(coordinator_keys=["g"]), 4)
    assert [(c.key, c.error_code) for c in answer.coordinators] == [("g", -1)]
    assert refused(FindCoordinatorRequest(key="g"), 3).error_code == -1


def test_partitions_are_told_inside_their_topics() -> None:
    parts = [ListOffsetsPartition(partition_index=4), ListOffsetsPartition(partition_index=5)]
    answer = refused(ListOffsetsRequest(topics=[ListOffsetsTopic(name="t", partitions=parts)]), 7)
    assert [
        (t.name, [(p.partition_index, p.error_code) for p in t.partitions]) for t in answer.topics
    ] == [("t", [(4, -1), (5, -1)])]


def test_what_was_asked_is_not_told_as_found() -> None:
    asked = ListOffsetsPartition(partition_index=4, timestamp=5)
    answer = refused(ListOffsetsRequest(topics=[ListOffsetsTopic(name="t", partitions=[asked])]), 7)
    assert answer.topics[0].partitions[0].timestamp == -1
    part = FetchPartition(partition=4, log_start_offset=7, high_watermark=9)
    answer = refused(FetchRequest(topics=[FetchTopic(topic="t", partitions=[part])]), 6)
    told = answer.responses[0].partitions[0]
    assert (told.partition_index, told.error_code) == (4, -1)
    assert told.log_start_offset == -1
