"""A few client tests on clusters of three brokers; `python -m tests.e2e.clusters` runs all."""

import pytest

from tests.e2e import clusters
from tests.kit import zookeeper

TELLING = (
    "test_clients.py::test_everything_comes_back[confluent-zstd]",
    "test_clients.py::test_everything_comes_back[aiokafka-gzip]",
    "test_clients.py::test_everything_comes_back[kafka-python-lz4]",
    "test_clients.py::test_large_records[kafka-python-none]",
    "test_clients.py::test_topics_and_configs[confluent]",
    "test_clients.py::test_a_topic_made_again_is_empty[kafka-python]",
    "test_clients.py::test_kcat[kcat-snappy-True]",
    "test_groups.py::test_members_share_read_and_commit[confluent]",
    "test_groups.py::test_members_share_read_and_commit[confluent-consumer]",
    "test_groups.py::test_members_share_read_and_commit[aiokafka]",
    "test_transactions.py::test_commit_and_abort[aiokafka]",
    "test_transactions.py::test_offsets_are_part_of_a_transaction[confluent]",
    "test_share_groups.py::test_records_are_accepted_released_and_rejected",
)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "kind", [clusters.THREE, pytest.param(clusters.ZOOKEEPER, marks=pytest.mark.java)]
)
def test_clients_on_three_brokers(kind: str) -> None:
    if kind == clusters.ZOOKEEPER and (sentence := zookeeper.lacking()):
        pytest.skip(sentence)
    done = clusters.run(kind, TELLING)
    assert done.returncode == 0 and f"{len(TELLING)} passed" in done.stdout, done.stdout[-6000:]
