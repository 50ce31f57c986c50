"""Features: what a cluster begins with, how the controller changes it, how brokers hear of it."""

import asyncio
from typing import Any

import pytest

from broker.cluster import layout
from broker.cluster.features import (
    GROUP_VERSION,
    LATEST,
    SHARE_VERSION,
    TRANSACTION_VERSION,
    FeatureCache,
    FeatureWatch,
    FinalizedFeatures,
    IncompatibleFeatures,
)
from broker.cluster.layout import BadContent
from broker.cluster.local import LocalStore
from broker.cluster.store import ensure_path
from broker.context import ApiError, Context, Node
from broker.controller.features import (
    SAFE_DOWNGRADE,
    UNSAFE_DOWNGRADE,
    UPGRADE,
    FeatureWish,
    plan_levels,
    supported_by_all,
)
from broker.handlers import update_features
from broker.refusals import refusal
from protocol.messages.api_versions import ApiVersionsRequest
from protocol.messages.update_features import (
    FeatureUpdateKey,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from tests.kit.nodes import MetadataNode, handler_node
from tests.kit.threaded import ThreadedBroker
from tests.kit.wire import Wire

SPANS = {GROUP_VERSION: (0, 1), TRANSACTION_VERSION: (0, 2)}


@pytest.mark.parametrize(
    ("present", "wish", "fits"),
    [
        (0, (GROUP_VERSION, 1, UPGRADE), True),
        (1, (GROUP_VERSION, 1, UPGRADE), True),
        (1, (GROUP_VERSION, 1, SAFE_DOWNGRADE), True),
        (0, (GROUP_VERSION, 0, SAFE_DOWNGRADE), True),
        (1, (GROUP_VERSION, 0, SAFE_DOWNGRADE), True),
        (1, (GROUP_VERSION, 0, UNSAFE_DOWNGRADE), True),
        (2, (TRANSACTION_VERSION, 1, UNSAFE_DOWNGRADE), True),
        (1, (GROUP_VERSION, 0, UPGRADE), False),
        (0, (GROUP_VERSION, 1, SAFE_DOWNGRADE), False),
        (0, (GROUP_VERSION, 1, UNSAFE_DOWNGRADE), False),
        (0, (GROUP_VERSION, 2, UPGRADE), False),
        (0, (GROUP_VERSION, -1, UPGRADE), False),
        (0, (GROUP_VERSION, -1, SAFE_DOWNGRADE), False),
        (0, ("", 1, UPGRADE), False),
        (0, ("nobody.knows", 1, UPGRADE), False),
        (0, ("nobody.knows", 0, SAFE_DOWNGRADE), False),
        (0, (GROUP_VERSION, 1, 0), False),
        (0, (GROUP_VERSION, 1, 4), False),
        (0, (GROUP_VERSION, 1, -1), False),
    ],
)
def test_which_levels_are_granted(present: int, wish: tuple[str, int, int], fits: bool) -> None:
    before = {wish[0]: present} if present else {}
    levels, (answer,) = plan_levels([FeatureWish(*wish)], before, SPANS)
    assert (answer is None) is fits
    after = ({wish[0]: wish[1]} if wish[1] else {}) if fits else before
    assert levels == after
    if answer is not None:
        assert answer.message


@pytest.mark.parametrize(
    ("level", "upgrade_type", "sentence"),
    [
        (6, UPGRADE, "Could not apply finalized feature update because the provided feature is "
         "not supported."),
        (4, UNSAFE_DOWNGRADE, "Could not apply finalized feature update because the provided "
         "feature is not supported."),
        (0, SAFE_DOWNGRADE, "Can not delete non-existing finalized feature."),
    ],
)  # fmt: skip
def test_the_metadata_version_cannot_be_changed(
    level: int, upgrade_type: int, sentence: str
) -> None:
    _, (answer,) = plan_levels([FeatureWish("metadata.version", level, upgrade_type)], {}, SPANS)
    assert answer is not None and answer.message == sentence


def test_a_feature_is_supported_as_far_as_every_broker_goes() -> None:
    def broker(**spans: tuple[int, int]) -> dict[str, Any]:
        return {n: {"min_version": low, "max_version": high} for n, (low, high) in spans.items()}

    assert supported_by_all([]) == {}
    assert supported_by_all([broker(a=(0, 2), b=(0, 1))]) == {"a": (0, 2), "b": (0, 1)}
    assert supported_by_all([broker(a=(0, 2), b=(0, 1)), broker(a=(1, 3))]) == {"a": (1, 2)}
    assert supported_by_all([broker(a=(0, 2)), {}]) == {}
    assert supported_by_all([broker(a=(0, 2)), broker(a=(3, 4))]) == {}
    assert supported_by_all([{"a": {"min_version": 1}}, broker(a=(0, 2))]) == {"a": (0, 0)}


async def test_a_new_cluster_has_what_its_first_broker_says_and_an_old_one_keeps_what_it_has() -> (
    None
):
    store = LocalStore()
    first = MetadataNode(store, 0)
    await store.start()
    await first.membership.prepare(LATEST)
    data, stat = await store.get(layout.FEATURE)
    assert layout.decode_feature(data) == LATEST
    await store.set(layout.FEATURE, layout.encode_feature({GROUP_VERSION: 1}), stat.version)
    await first.start()
    assert first.features.finalized == FinalizedFeatures({GROUP_VERSION: 1}, 1)
    assert first.features.level(GROUP_VERSION) == 1
    assert first.features.level(TRANSACTION_VERSION) == 0
    second = MetadataNode(store.session(), 1, peers=first.peers)
    await second.store.start()
    await second.membership.prepare(LATEST)
    assert (await store.get(layout.FEATURE))[1].version == 1
    await second.store.close()
    await first.stop()


async def test_a_store_as_apache_kafka_leaves_it_has_nothing_finalized() -> None:
    node = MetadataNode(LocalStore())
    await node.start()
    data, stat = await node.store.get(layout.FEATURE)
    assert (data, stat.version) == (b'{"features":{},"version":2,"status":1}', 0)
    assert await node.features.reached(0, 5)
    assert node.features.finalized.levels == {}
    await node.stop()


@pytest.mark.parametrize(
    ("data", "levels"),
    [
        (b'{"features":{},"version":1,"status":0}', {}),
        (b'{"features":{"a":{"max_version_level":3}},"version":2,"status":0}', {}),
        (
            b'{"features":{"a":{"min_version_level":1,"max_version_level":3}},"version":1,'
            b'"status":1}',
            {"a": 3},
        ),
        (b'{"status":1,"version":2,"features":{"a":{"max_version_level":3}}}', {"a": 3}),
    ],
)
def test_what_other_releases_wrote_is_read(data: bytes, levels: dict[str, int]) -> None:
    assert layout.decode_feature(data) == levels


@pytest.mark.parametrize(
    "data",
    [None, b"", b"[]", b"{}", b'{"status":1}', b'{"status":1,"features":{"a":1}}', b'{"status":[]'],
)
def test_what_cannot_be_read_is_named(data: bytes | None) -> None:
    with pytest.raises(BadContent, match="/feature"):
        layout.decode_feature(data)


async def test_a_level_above_ours_stops_the_start() -> None:
    store = LocalStore()
    await store.start()
    await ensure_path(store, layout.FEATURE)
    await store.set(layout.FEATURE, layout.encode_feature({TRANSACTION_VERSION: 3}))
    with pytest.raises(IncompatibleFeatures, match=r"transaction\.version at level 3"):
        await FeatureWatch(store, FeatureCache()).start()
    await store.close()


async def two() -> list[MetadataNode]:
    store, peers = LocalStore(), {}  # type: ignore[var-annotated]
    nodes = [MetadataNode(store.session(), i, peers=peers) for i in range(2)]
    for node in nodes:
        await node.start()
    return nodes


async def update(node: MetadataNode, *wishes: FeatureWish, **options: Any) -> list[int]:
    answers, epoch = await node.controller.update_features(
        wishes, together=options.pop("together", True), **options
    )
    assert await node.features.reached(epoch, 5)
    return [0 if a is None else int(a.code) for a in answers]


async def test_every_broker_hears_of_a_change() -> None:
    nodes = await two()
    assert await update(nodes[0], FeatureWish(GROUP_VERSION, 1, UPGRADE)) == [0]
    assert await nodes[1].features.reached(1, 5)
    assert [n.features.finalized for n in nodes] == [FinalizedFeatures({GROUP_VERSION: 1}, 1)] * 2
    assert await update(nodes[0], FeatureWish(GROUP_VERSION, 0, SAFE_DOWNGRADE)) == [0]
    assert nodes[0].features.finalized == FinalizedFeatures({}, 2)
    assert (await nodes[0].store.get(layout.FEATURE))[0] == layout.encode_feature()
    assert not await nodes[0].features.reached(3, 0.01)
    for node in nodes:
        await node.stop()


async def test_one_refusal_stands_for_all_or_for_itself() -> None:
    (node, other) = await two()
    wishes = FeatureWish(GROUP_VERSION, 1, UPGRADE), FeatureWish("nope", 1, UPGRADE)
    assert await update(node, *wishes) == [0, 95]
    assert node.features.finalized == FinalizedFeatures({}, 0)
    assert await update(node, wishes[0], validate_only=True) == [0]
    assert node.features.finalized == FinalizedFeatures({}, 0)
    assert await update(node, *wishes, together=False) == [0, 95]
    assert node.features.finalized == FinalizedFeatures({GROUP_VERSION: 1}, 1)
    assert await update(node, wishes[0]) == [0]
    assert node.features.finalized.epoch == 1  # the same level: nothing was written
    await other.stop()
    await node.stop()


async def test_a_broker_without_features_keeps_them_off() -> None:
    store, peers = LocalStore(), {}  # type: ignore[var-annotated]
    ours = MetadataNode(store.session(), 0, peers=peers)
    theirs = MetadataNode(store.session(), 1, peers=peers, features=False)
    await ours.start()
    await theirs.start()
    await asyncio.sleep(0)
    assert await update(ours, FeatureWish(GROUP_VERSION, 1, UPGRADE)) == [95]
    await theirs.stop()
    await ours.stop()


async def ask(node: Node, version: int, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse:
    context = Context("c", "PLAINTEXT", "127.0.0.1")
    context.version = version
    try:
        return await update_features.handle(node, context, request)
    except ApiError as error:
        refused = refusal(UpdateFeaturesResponse, version, request, error.code, error.message)
        assert isinstance(refused, UpdateFeaturesResponse)
        return refused


async def test_the_handler_in_the_manner_of_each_version() -> None:
    nodes = await two()
    node = handler_node(nodes[0])

    async def call(version: int, *updates: FeatureUpdateKey, **options: Any) -> Any:
        request = UpdateFeaturesRequest(feature_updates=list(updates), **options)
        answer = await ask(node, version, request)
        by_feature = [(r.feature, r.error_code) for r in answer.results]
        assert all((r.error_message is None) == (r.error_code == 0) for r in answer.results)
        assert (answer.error_message is None) == (answer.error_code == 0)
        return answer.error_code, by_feature

    group, share = FeatureUpdateKey(GROUP_VERSION, 1), FeatureUpdateKey(SHARE_VERSION, 9)
    for version in range(2):
        results = [(GROUP_VERSION, 0), (SHARE_VERSION, 42)]
        assert await call(version, group, share) == (0, results)
        assert node.features.level(GROUP_VERSION) == 1
        lower = FeatureUpdateKey(GROUP_VERSION, 0)
        assert await call(version, lower) == (0, [(GROUP_VERSION, 42)])
        lower.allow_downgrade, lower.upgrade_type = True, SAFE_DOWNGRADE
        assert await call(version, lower) == (0, [(GROUP_VERSION, 0)])
        assert node.features.level(GROUP_VERSION) == 0
    assert await call(1, group, validate_only=True) == (0, [(GROUP_VERSION, 0)])
    assert await call(2, group, share) == (95, [])
    assert node.features.level(GROUP_VERSION) == 0
    assert await call(2, group) == (0, [])
    assert node.features.level(GROUP_VERSION) == 1
    assert await call(2) == (0, [])
    twice = FeatureUpdateKey(GROUP_VERSION, 9), FeatureUpdateKey(GROUP_VERSION, 1)
    assert await call(1, *twice) == (0, [(GROUP_VERSION, 0)])
    standby = handler_node(nodes[1])
    for version in range(3):
        request = UpdateFeaturesRequest(feature_updates=[group])
        answer = await ask(standby, version, request)
        assert answer.error_code == 41
    for each in nodes:
        await each.stop()


def test_a_fresh_broker_works_at_the_newest_levels_and_says_so() -> None:
    with ThreadedBroker() as broker, Wire(broker.bootstrap) as wire:
        asked = ApiVersionsRequest(client_software_name="a", client_software_version="1")

        def finalized() -> tuple[dict[str, int], int]:
            answer = wire.call(asked)
            levels = {f.name: f.max_version_level for f in answer.finalized_features}
            return levels, answer.finalized_features_epoch

        assert finalized() == (LATEST, 0)
        wish = FeatureUpdateKey(TRANSACTION_VERSION, 1, upgrade_type=SAFE_DOWNGRADE)
        assert wire.call(UpdateFeaturesRequest(feature_updates=[wish])).error_code == 0
        assert finalized() == ({**LATEST, TRANSACTION_VERSION: 1}, 1)
