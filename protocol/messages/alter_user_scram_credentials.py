"""AlterUserScramCredentials (key 51): SCRAM credentials of users to be set or deleted (KIP-554)."""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Bytes, Int8, Int16, Int32, NullableString, String


@dataclass(slots=True)
class ScramCredentialDeletion:
    name: String = ""
    mechanism: Int8 = 0


@dataclass(slots=True)
class ScramCredentialUpsertion:
    name: String = ""
    mechanism: Int8 = 0
    iterations: Int32 = 0
    salt: Bytes = b""
    salted_password: Bytes = b""


@dataclass(slots=True)
class AlterUserScramCredentialsRequest:
    """Deletions, and credentials salted by the client."""

    API_KEY: ClassVar[int] = 51
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    deletions: list[ScramCredentialDeletion] = field(default_factory=list)
    upsertions: list[ScramCredentialUpsertion] = field(default_factory=list)


@dataclass(slots=True)
class AlterUserScramCredentialsResult:
    user: String = ""
    error_code: Int16 = 0
    error_message: NullableString = ""


@dataclass(slots=True)
class AlterUserScramCredentialsResponse:
    """What became of each user."""

    API_KEY: ClassVar[int] = 51
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    results: list[AlterUserScramCredentialsResult] = field(default_factory=list)
