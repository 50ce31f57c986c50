"""ApiVersions: what is offered, who asks, and where the client believes to be."""

import pytest

from broker.cluster.features import LATEST, SUPPORTED, FeatureCache, FinalizedFeatures
from broker.context import Context, Node
from broker.handlers import HANDLERS
from broker.handlers.api_versions import handle, offered
from protocol.apis import API_BY_KEY
from protocol.compiler import encoder
from protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

NOTHING = FinalizedFeatures()


def ask(
    version: int, finalized: FinalizedFeatures = NOTHING, **fields: object
) -> tuple[ApiVersionsResponse, Context]:
    node = Node()
    node.broker_id, node.cluster_id = 3, "our-cluster"
    node.features = FeatureCache(finalized)
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
def test_all_versions_carry_the_table(version: int) -> None:
    answer, _ = ask(version)
    assert answer.error_code == 0
    assert len(answer.api_keys) == len(HANDLERS)


@pytest.mark.parametrize("version", range(3, 6))
def test_features_are_told(version: int) -> None:
    answer, _ = ask(version, FinalizedFeatures({"group.version": 1}, 7))
    supported = {f.name: (f.min_version, f.max_version) for f in answer.supported_features}
    assert supported == ({} if version == 3 else SUPPORTED)
    finalized = [
        (f.name, f.min_version_level, f.max_version_level) for f in answer.finalized_features
    ]
    assert finalized == [("group.version", 1, 1)]
    assert answer.finalized_features_epoch == 7


@pytest.mark.parametrize("levels", [{}, {"group.version": 1}, LATEST])
@pytest.mark.parametrize("epoch", [-1, 0, 1, 7, 111, 127, 128, 129, 255, 256, 70_000, 1 << 40])
@pytest.mark.parametrize("version", range(3, 6))
def test_tagged_fields_skipped_as_by_librdkafka_before_2_2(
    version: int, epoch: int, levels: dict[str, int]
) -> None:
    """It skips a byte too few of each, and must not run out of bytes (seen with 2.0.2, 2.1.1)."""
    answer, _ = ask(version, FinalizedFeatures(levels, epoch))
    out = bytearray()
    encoder(ApiVersionsResponse, version)(answer, out)
    answer.supported_features, answer.finalized_features = [], []
    answer.finalized_features_epoch = -1
    plain = bytearray()
    encoder(ApiVersionsResponse, version)(answer, plain)
    count, pos = uvarint(out, len(plain) - 1)
    for _ in range(count):
        _, pos = uvarint(out, pos)
        length, pos = uvarint(out, pos)
        pos += max(0, length - 1)
    assert pos <= len(out)


def uvarint(data: bytearray, pos: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[pos] & 127) << shift
        shift += 7
        pos += 1
        if not data[pos - 1] & 128:
            return value, pos


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
