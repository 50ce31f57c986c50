"""StreamsGroupTopologyDescriptionUpdate (key 93): a streams group's topology, described for people
(KIP-1331).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Int8, Int16, Int32, NullableString, String


@dataclass(slots=True)
class TopologyDescriptionNode:
    name: String = ""
    node_type: Int8 = 0
    source_topics: list[String] = field(default_factory=list)
    sink_topic: NullableString = None
    stores: list[String] = field(default_factory=list)
    successors: list[String] = field(default_factory=list)


@dataclass(slots=True)
class TopologyDescriptionSubtopology:
    subtopology_id: String = ""
    nodes: list[TopologyDescriptionNode] = field(default_factory=list)


@dataclass(slots=True)
class TopologyDescriptionGlobalStore:
    source: TopologyDescriptionNode = field(default_factory=TopologyDescriptionNode)
    processor: TopologyDescriptionNode = field(default_factory=TopologyDescriptionNode)


@dataclass(slots=True)
class TopologyDescription:
    subtopologies: list[TopologyDescriptionSubtopology] = field(default_factory=list)
    global_stores: list[TopologyDescriptionGlobalStore] = field(default_factory=list)


@dataclass(slots=True)
class StreamsGroupTopologyDescriptionUpdateRequest:
    """The topology's subtopologies, nodes and global stores."""

    API_KEY: ClassVar[int] = 93
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_id: String = ""
    member_id: String = ""
    topology_epoch: Int32 = 0
    topology_description: TopologyDescription = field(default_factory=TopologyDescription)


@dataclass(slots=True)
class StreamsGroupTopologyDescriptionUpdateResponse:
    """Whether it was taken."""

    API_KEY: ClassVar[int] = 93
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
