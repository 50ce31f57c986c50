"""ApiVersions: what is offered, who asks, and where the client believes to be."""

import pytest

from broker.context import Context, Node
from broker.handlers import HANDLERS
from broker.handlers.api_versions import handle, offered
from protocol.apis import API_BY_KEY
from protocol.compiler import encoder
from protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse


def ask(version: int, **fields: object) -> tuple[ApiVersionsResponse, Context]:
    node = Node()
    node.broker_id, node.cluster_id = 3, "our-cluster"
    context = Context("c", "PLAINTEXT", "127.0.0.1")
    context.version = version
    named = {"client_software_name": "soft", "client_software_version": "1.0", **fields}
    return handle(node, context, ApiVersionsRequest(**named)), context  # type: ignore[arg-type]


def test_every_api_with_a_handler_is_offered() -> None:
    table = {key.api_key: (key.min_version, key.max_version) for key in offered()}
    assert [API_BY_KEY[key].stem for key in table] == sorted(
        HANDLERS, key=lambda stem: next(k for k, a in API_BY_KEY.items() if a.stem == stem)
    )
    assert table[18] == (0, 5)
    assert table[0] == (0, 13)
    assert list(table) == sorted(table)


@pytest.mark.parametrize("version", range(6))
def test_all_versions_carry_the_table_and_no_tags(version: int) -> None:
    answer, _ = ask(version)
    assert answer.error_code == 0
    assert len(answer.api_keys) == len(HANDLERS)
    out = bytearray()
    encoder(ApiVersionsResponse, version)(answer, out)
    if version >= 3:
        assert out[-1] == 0  # no tagged field: librdkafka before 2.2 cannot skip them


@pytest.mark.parametrize(
    "bad", ["", " ", "bad name!", "-a", "a-", ".", "a\n", "ä", "a_b", "a" * 3 + " "]
)
def test_names_of_software(bad: str) -> None:
    for field in ("client_software_name", "client_software_version"):
        answer, context = ask(3, **{field: bad})
        assert (answer.error_code, answer.api_keys) == (42, [])
        assert context.software_name == ""
    assert ask(2, client_software_name=bad)[0].error_code == 0


def test_software_is_remembered() -> None:
    answer, context = ask(4, client_software_name="a", client_software_version="1.2-rc.1")
    assert answer.error_code == 0
    assert (context.software_name, context.software_version) == ("a", "1.2-rc.1")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, 0),
        ({"cluster_id": "our-cluster", "node_id": 3}, 0),
        ({"cluster_id": "our-cluster"}, 42),
        ({"node_id": 3}, 42),
        ({"cluster_id": "other", "node_id": 3}, 129),
        ({"cluster_id": "our-cluster", "node_id": 4}, 129),
        ({"cluster_id": "", "node_id": 3}, 42),
    ],
)
def test_where_the_client_believes_to_be(fields: dict[str, object], code: int) -> None:
    answer, _ = ask(5, **fields)
    assert answer.error_code == code
    assert bool(answer.api_keys) == (code == 0)
