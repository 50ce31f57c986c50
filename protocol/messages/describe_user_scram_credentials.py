"""DescribeUserScramCredentials (key 50): SCRAM mechanisms and iterations of users (KIP-554)."""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Int8, Int16, Int32, NullableString, String


@dataclass(slots=True)
class UserName:
    name: String = ""


@dataclass(slots=True)
class DescribeUserScramCredentialsRequest:
    """The users; null or none means all."""

    API_KEY: ClassVar[int] = 50
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    users: list[UserName] | None = field(default_factory=list)


@dataclass(slots=True)
class CredentialInfo:
    mechanism: Int8 = 0
    iterations: Int32 = 0


@dataclass(slots=True)
class DescribeUserScramCredentialsResult:
    user: String = ""
    error_code: Int16 = 0
    error_message: NullableString = ""
    credential_infos: list[CredentialInfo] = field(default_factory=list)


@dataclass(slots=True)
class DescribeUserScramCredentialsResponse:
    """Mechanisms and iterations, no secrets."""

    API_KEY: ClassVar[int] = 50
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = ""
    results: list[DescribeUserScramCredentialsResult] = field(default_factory=list)
