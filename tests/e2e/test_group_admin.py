"""Describing, listing, altering and deleting groups with every stock client that can."""

import warnings
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.clients import ADAPTERS
from tests.e2e.clients.base import GroupEditor
from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.corpus import Item, base_timestamp
from tests.e2e.members import Place, Watch
from tests.e2e.members.python_confluent import ConfluentMember

with warnings.catch_warnings():
    # kafka-python's import still calls importlib.resources.read_text, deprecated in Python 3.11
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, TopicPartition
    from kafka.admin import MemberToRemove

NewName = Callable[[], str]
LIBRARIES = [name for name in ADAPTERS if name != "kcat"]


@pytest.fixture
def topic(bootstrap: str, new_name: NewName) -> str:
    """Two partitions with 10 records each."""
    name = new_name()
    admin = Confluent(bootstrap)
    admin.create_topic(name, 2)
    admin.produce(name, [Item(n % 2, base_timestamp(), None, b"%d" % n) for n in range(20)])
    return name


@pytest.fixture
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """kafka-python's admin client, which has more of groups than the others."""
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    yield client
    client.close()


def member(
    bootstrap: str, topic: str, name: str, watch: Watch, way: str = "range", **more: str
) -> ConfluentMember:
    return ConfluentMember(
        bootstrap, f"group-{topic}", [topic], watch, name, way=way, commits="each", **more
    )


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_life_of_a_group(bootstrap: str, topic: str, name: str) -> None:
    client: GroupEditor = ADAPTERS[name](bootstrap)
    watch, group = Watch(), f"group-{topic}"
    places: list[Place] = [(topic, 0), (topic, 1)]
    assert group not in client.groups()
    first, second = (member(bootstrap, topic, word, watch) for word in ("first", "second"))
    with first, second:
        watch.until(watch.shared([first, second], places), "both own a partition")
        watch.until(lambda: watch.committed == dict.fromkeys(places, 10), "everything is committed")
        assert client.group_state(group) == "stable"
        owned = {m.name: watch.share_of(m) for m in (first, second)}
        assert client.group_members(group) == owned
        assert group in client.groups()
        assert client.group_offsets(group) == dict.fromkeys(places, 10)
        if name != "aiokafka":
            assert client.delete_group(group) == "NON_EMPTY_GROUP"
    assert client.group_state(group) == "empty"
    assert client.group_members(group) == {}
    assert client.group_offsets(group) == dict.fromkeys(places, 10)
    if name == "aiokafka":
        return  # its admin client cannot alter offsets nor delete groups
    client.alter_group_offsets(group, {places[0]: 4, places[1]: 7})
    assert client.group_offsets(group) == {places[0]: 4, places[1]: 7}
    watch = Watch()
    watch.was_committed({places[0]: 4, places[1]: 7})
    with member(bootstrap, topic, "third", watch):
        watch.until(lambda: watch.count() == 9, "the rest, from the altered offsets")
    assert client.delete_group(group) == ""
    assert group not in client.groups()
    assert client.group_offsets(group) == {}


def test_a_group_of_the_consumer_protocol(
    bootstrap: str, topic: str, admin: KafkaAdminClient
) -> None:
    client = Confluent(bootstrap)
    watch, group = Watch(), f"group-{topic}"
    first, second = (
        member(bootstrap, topic, word, watch, "consumer") for word in ("first", "second")
    )
    with first, second:
        watch.until(watch.shared([first, second], [(topic, 0), (topic, 1)]), "both own a partition")
        owned = {m.name: watch.share_of(m) for m in (first, second)}
        watch.until(lambda: client.group_members(group) == owned, "the members as described")
        assert client.group_state(group) == "stable"
        listed = {g["group_id"]: g for g in admin.list_groups(types_filter=["consumer"])}
        assert listed[group]["group_state"] == "Stable"
        assert group not in {g["group_id"] for g in admin.list_groups(types_filter=["classic"])}
        assert client.delete_group(group) == "NON_EMPTY_GROUP"
    assert client.group_state(group) == "empty"
    assert client.delete_group(group) == ""


def test_filters_resets_and_deleted_offsets(
    bootstrap: str, topic: str, admin: KafkaAdminClient
) -> None:
    watch, group = Watch(), f"group-{topic}"

    def listed(*states: str) -> bool:
        return group in {found["group_id"] for found in admin.list_groups(states_filter=states)}

    places = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    with member(bootstrap, topic, "alone", watch):
        everything = {(topic, 0): 10, (topic, 1): 10}
        watch.until(lambda: watch.committed == everything, "everything is committed")
        assert listed("Stable") and listed("stable", "Empty") and not listed("Empty")
        refused = admin.delete_group_offsets(group, places)
        assert {e.__name__ for e in refused.values()} == {"GroupSubscribedToTopicError"}
        refused = admin.alter_group_offsets(group, admin.list_group_offsets([group])[group])
        assert {e.__name__ for e in refused.values()} == {"UnknownMemberIdError"}
    assert listed("Empty") and not listed("Stable")
    done = admin.reset_group_offsets(group, {places[0]: 3, places[1]: 99})
    assert {p: (d["error"].errno, d["offset"]) for p, d in done.items()} == {
        places[0]: (0, 3),
        places[1]: (0, 10),
    }
    assert {e.errno for e in admin.delete_group_offsets(group, places[:1]).values()} == {0}
    left = admin.list_group_offsets([group])[group]
    assert {p: committed.offset for p, committed in left.items()} == {places[1]: 10}


def test_members_are_removed(bootstrap: str, topic: str, admin: KafkaAdminClient) -> None:
    """Static members stay when their client is closed; an operator removes them."""
    watch, group = Watch(), f"group-{topic}"
    with member(bootstrap, topic, "gone", watch, instance="one") as gone:
        watch.until(watch.shared([gone], [(topic, 0), (topic, 1)]), "it owns everything")
    assert len(admin.describe_groups([group])[group]["members"]) == 1
    both = [MemberToRemove(group_instance_id="one"), MemberToRemove(group_instance_id="two")]
    told = admin.remove_group_members(group, both)
    assert sorted(error.__name__ for error in told.values()) == ["NoError", "UnknownMemberIdError"]
    found = admin.describe_groups([group])[group]
    assert (found["group_state"], found["members"]) == ("Empty", [])
