"""ApiVersions (key 18): which APIs and versions a broker serves (KIP-35).

Versions: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 flexible, client
software (KIP-511), features (KIP-584); 4 features whose lowest version is 0; 5 the cluster and node
that the client believes to reach (KIP-1242).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bool, Int16, Int32, Int64, NullableString, String, ignorable, since, tag


@dataclass(slots=True)
class ApiVersionsRequest:
    """Nothing, and since version 3 the client's software."""

    API_KEY: ClassVar[int] = 18
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    client_software_name: Annotated[String, since(3), ignorable] = ""
    client_software_version: Annotated[String, since(3), ignorable] = ""
    cluster_id: Annotated[NullableString, since(5), ignorable] = None
    node_id: Annotated[Int32, since(5), ignorable] = -1


@dataclass(slots=True)
class ApiVersion:
    api_key: Int16 = 0
    min_version: Int16 = 0
    max_version: Int16 = 0


@dataclass(slots=True)
class SupportedFeatureKey:
    name: String = ""
    min_version: Int16 = 0
    max_version: Int16 = 0


@dataclass(slots=True)
class FinalizedFeatureKey:
    name: String = ""
    max_version_level: Int16 = 0
    min_version_level: Int16 = 0


@dataclass(slots=True)
class ApiVersionsResponse:
    """The table of APIs. Its header stays version 0: the client does not know yet what the broker
    speaks.
    """

    API_KEY: ClassVar[int] = 18
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    error_code: Int16 = 0
    api_keys: list[ApiVersion] = field(default_factory=list)
    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    supported_features: Annotated[list[SupportedFeatureKey], since(3), tag(0), ignorable] = field(
        default_factory=list
    )
    finalized_features_epoch: Annotated[Int64, since(3), tag(1), ignorable] = -1
    finalized_features: Annotated[list[FinalizedFeatureKey], since(3), tag(2), ignorable] = field(
        default_factory=list
    )
    zk_migration_ready: Annotated[Bool, since(3), tag(3), ignorable] = False
