"""Declared tables of the broker's settings, by subject. Plain data: importing parses nothing.

`SETTINGS` holds every setting Apache Kafka 3.9 has, and the newer ones of its group, share and
transaction coordinators. May import storage.settings and storage.config only.
"""

from broker.settings import cluster, coordinators, groups, logs, network
from storage.settings import Setting, table

SETTINGS: dict[str, Setting] = table(
    (
        *cluster.ROWS,
        *coordinators.ROWS,
        *coordinators.NEWER_ROWS,
        *logs.ROWS,
        *network.ROWS,
    )
)

DYNAMIC_ONLY: dict[str, Setting] = table(logs.DYNAMIC_ONLY_ROWS)
"""Settings that only have a dynamic value (of one broker), and that DescribeConfigs does not list.
"""

INTERNAL: dict[str, Setting] = table(logs.INTERNAL_ROWS)
"""Settings that Apache Kafka takes from a property file and keeps to itself."""

UNLISTED = DYNAMIC_ONLY | INTERNAL

CLIENT_METRICS: dict[str, Setting] = table(cluster.CLIENT_METRICS_ROWS)
GROUPS: dict[str, Setting] = table(groups.ROWS)
