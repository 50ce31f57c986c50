"""Kafka's error codes, and the exceptions of this package.

An `ErrorCode` is what a response carries; `Malformed`, `UnsupportedField` and `CorruptRecord` are
what this package raises. Codes, names and which of them a client may retry are Apache Kafka 4.4's
(the protocol guide lists them).
"""

from enum import IntEnum


class Malformed(Exception):
    """The bytes are no such message: cut off, a length out of range, null where none is allowed."""


class UnsupportedField(ValueError):
    """A value has no place in the version that is to be written."""


class CorruptRecord(Exception):
    """A record batch or a compressed block is damaged, or not what its header says."""


class ErrorCode(IntEnum):
    """An error code of the protocol (int16 on the wire)."""

    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    INVALID_FETCH_SIZE = 4
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    BROKER_NOT_AVAILABLE = 8
    REPLICA_NOT_AVAILABLE = 9
    MESSAGE_TOO_LARGE = 10
    STALE_CONTROLLER_EPOCH = 11
    OFFSET_METADATA_TOO_LARGE = 12
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC_EXCEPTION = 17
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    INVALID_REQUIRED_ACKS = 21
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    INVALID_COMMIT_OFFSET_SIZE = 28
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_SASL_MECHANISM = 33
    ILLEGAL_SASL_STATE = 34
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_REPLICA_ASSIGNMENT = 39
    INVALID_CONFIG = 40
    NOT_CONTROLLER = 41
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    INVALID_TRANSACTION_TIMEOUT = 50
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTION_COORDINATOR_FENCED = 52
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    SECURITY_DISABLED = 54
    OPERATION_NOT_ATTEMPTED = 55
    KAFKA_STORAGE_ERROR = 56
    LOG_DIR_NOT_FOUND = 57
    SASL_AUTHENTICATION_FAILED = 58
    UNKNOWN_PRODUCER_ID = 59
    REASSIGNMENT_IN_PROGRESS = 60
    DELEGATION_TOKEN_AUTH_DISABLED = 61
    DELEGATION_TOKEN_NOT_FOUND = 62
    DELEGATION_TOKEN_OWNER_MISMATCH = 63
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64
    DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65
    DELEGATION_TOKEN_EXPIRED = 66
    INVALID_PRINCIPAL_TYPE = 67
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    FETCH_SESSION_ID_NOT_FOUND = 70
    INVALID_FETCH_SESSION_EPOCH = 71
    LISTENER_NOT_FOUND = 72
    TOPIC_DELETION_DISABLED = 73
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    UNSUPPORTED_COMPRESSION_TYPE = 76
    STALE_BROKER_EPOCH = 77
    OFFSET_NOT_AVAILABLE = 78
    MEMBER_ID_REQUIRED = 79
    PREFERRED_LEADER_NOT_AVAILABLE = 80
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83
    ELECTION_NOT_NEEDED = 84
    NO_REASSIGNMENT_IN_PROGRESS = 85
    GROUP_SUBSCRIBED_TO_TOPIC = 86
    INVALID_RECORD = 87
    UNSTABLE_OFFSET_COMMIT = 88
    THROTTLING_QUOTA_EXCEEDED = 89
    PRODUCER_FENCED = 90
    RESOURCE_NOT_FOUND = 91
    DUPLICATE_RESOURCE = 92
    UNACCEPTABLE_CREDENTIAL = 93
    INCONSISTENT_VOTER_SET = 94
    INVALID_UPDATE_VERSION = 95
    FEATURE_UPDATE_FAILED = 96
    PRINCIPAL_DESERIALIZATION_FAILURE = 97
    SNAPSHOT_NOT_FOUND = 98
    POSITION_OUT_OF_RANGE = 99
    UNKNOWN_TOPIC_ID = 100
    DUPLICATE_BROKER_REGISTRATION = 101
    BROKER_ID_NOT_REGISTERED = 102
    INCONSISTENT_TOPIC_ID = 103
    INCONSISTENT_CLUSTER_ID = 104
    TRANSACTIONAL_ID_NOT_FOUND = 105
    FETCH_SESSION_TOPIC_ID_ERROR = 106
    INELIGIBLE_REPLICA = 107
    NEW_LEADER_ELECTED = 108
    OFFSET_MOVED_TO_TIERED_STORAGE = 109
    FENCED_MEMBER_EPOCH = 110
    UNRELEASED_INSTANCE_ID = 111
    UNSUPPORTED_ASSIGNOR = 112
    STALE_MEMBER_EPOCH = 113
    MISMATCHED_ENDPOINT_TYPE = 114
    UNSUPPORTED_ENDPOINT_TYPE = 115
    UNKNOWN_CONTROLLER_ID = 116
    UNKNOWN_SUBSCRIPTION_ID = 117
    TELEMETRY_TOO_LARGE = 118
    INVALID_REGISTRATION = 119
    TRANSACTION_ABORTABLE = 120
    INVALID_RECORD_STATE = 121
    SHARE_SESSION_NOT_FOUND = 122
    INVALID_SHARE_SESSION_EPOCH = 123
    FENCED_STATE_EPOCH = 124
    INVALID_VOTER_KEY = 125
    DUPLICATE_VOTER = 126
    VOTER_NOT_FOUND = 127
    INVALID_REGULAR_EXPRESSION = 128
    REBOOTSTRAP_REQUIRED = 129
    STREAMS_INVALID_TOPOLOGY = 130
    STREAMS_INVALID_TOPOLOGY_EPOCH = 131
    STREAMS_TOPOLOGY_FENCED = 132
    SHARE_SESSION_LIMIT_REACHED = 133
    GROUP_DELETION_FAILED = 134
    STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED = 135
    CONTROLLER_ID_NOT_REGISTERED = 136

    @property
    def message(self) -> str:
        """A sentence for people, for answers with room for one and nothing better to say."""
        return _MESSAGES[self]

    @property
    def retriable(self) -> bool:
        """Whether a client may send the same request again and expect better luck."""
        return self in _RETRIABLE


_RETRIABLE = frozenset(
    (
        2,  # CORRUPT_MESSAGE
        3,  # UNKNOWN_TOPIC_OR_PARTITION
        5,  # LEADER_NOT_AVAILABLE
        6,  # NOT_LEADER_OR_FOLLOWER
        7,  # REQUEST_TIMED_OUT
        9,  # REPLICA_NOT_AVAILABLE
        13,  # NETWORK_EXCEPTION
        14,  # COORDINATOR_LOAD_IN_PROGRESS
        15,  # COORDINATOR_NOT_AVAILABLE
        16,  # NOT_COORDINATOR
        19,  # NOT_ENOUGH_REPLICAS
        20,  # NOT_ENOUGH_REPLICAS_AFTER_APPEND
        41,  # NOT_CONTROLLER
        51,  # CONCURRENT_TRANSACTIONS
        56,  # KAFKA_STORAGE_ERROR
        70,  # FETCH_SESSION_ID_NOT_FOUND
        71,  # INVALID_FETCH_SESSION_EPOCH
        72,  # LISTENER_NOT_FOUND
        74,  # FENCED_LEADER_EPOCH
        75,  # UNKNOWN_LEADER_EPOCH
        78,  # OFFSET_NOT_AVAILABLE
        80,  # PREFERRED_LEADER_NOT_AVAILABLE
        83,  # ELIGIBLE_LEADERS_NOT_AVAILABLE
        84,  # ELECTION_NOT_NEEDED
        88,  # UNSTABLE_OFFSET_COMMIT
        89,  # THROTTLING_QUOTA_EXCEEDED
        100,  # UNKNOWN_TOPIC_ID
        103,  # INCONSISTENT_TOPIC_ID
        106,  # FETCH_SESSION_TOPIC_ID_ERROR
        122,  # SHARE_SESSION_NOT_FOUND
        123,  # INVALID_SHARE_SESSION_EPOCH
        133,  # SHARE_SESSION_LIMIT_REACHED
    )
)

_MESSAGES = {
    -1: "Something unforeseen went wrong on the broker.",
    0: "No error.",
    1: "The offset lies outside of what the log holds.",
    2: "The record batch is damaged: wrong checksum or size, or no key in a compacted topic.",
    3: "No such topic or partition on this broker.",
    4: "The fetch size is not acceptable.",
    5: "The partition has no leader for the moment.",
    6: "This broker is neither leader nor follower of the partition, as the request needs.",
    7: "The time allowed for the request ran out.",
    8: "The broker cannot be reached.",
    9: "The replica cannot be used at present.",
    10: "The record batch is larger than max.message.bytes allows.",
    11: "The controller epoch is old: another broker is controller now.",
    12: "The metadata committed with an offset is too long.",
    13: "The connection broke before an answer came.",
    14: "The coordinator is still loading its state.",
    15: "No coordinator can serve this now.",
    16: "Another broker is the coordinator.",
    17: "The topic name is not allowed.",
    18: "The record batch does not fit into a segment.",
    19: "Too few replicas are in sync to accept the records.",
    20: "The records were appended, but too few replicas were in sync afterwards.",
    21: "acks must be -1, 0 or 1.",
    22: "The generation of the group is another one.",
    23: "The member shares no protocol with the group, or named none.",
    24: "The group id is not acceptable.",
    25: "The group has no such member.",
    26: "The session timeout lies outside the broker's limits (group.min/max.session.timeout.ms).",
    27: "The group is rebalancing; join again.",
    28: "The data of the offset commit are too large.",
    29: "No permission on the topic.",
    30: "No permission on the group.",
    31: "No permission on the cluster.",
    32: "The timestamp of a record lies outside the allowed range.",
    33: "The SASL mechanism is not enabled here.",
    34: "The request does not fit the present state of authentication.",
    35: "This version of the API is not served.",
    36: "A topic of this name exists.",
    37: "The number of partitions must be at least 1.",
    38: "The replication factor must be at least 1 and at most the number of brokers.",
    39: "The assignment of replicas is not acceptable.",
    40: "A setting is not acceptable.",
    41: "Another broker is the controller.",
    42: "The request makes no sense to this broker; its log says more.",
    43: "The record format on the broker is too old for this request.",
    44: "A policy of this cluster forbids the request.",
    45: "The sequence number does not follow the last one of this producer.",
    46: "Records with this sequence number were already appended.",
    47: "The producer's epoch is old.",
    48: "The transaction is in a state that does not allow this.",
    49: "The producer id does not belong to this transactional id.",
    50: "The transaction timeout exceeds the broker's transaction.max.timeout.ms.",
    51: "Another operation on this transaction is still under way.",
    52: "The coordinator that sent the marker is no longer in charge.",
    53: "No permission on the transactional id.",
    54: "No authorizer is configured.",
    55: "Left undone because another part of the same request failed.",
    56: "A disk failed under the log.",
    57: "The log directory is not one of this broker's.",
    58: "Authentication failed.",
    59: "The broker knows nothing (any more) of this producer id.",
    60: "The partition is already being reassigned.",
    61: "Delegation tokens are not enabled.",
    62: "There is no such delegation token.",
    63: "The principal neither owns nor may renew this delegation token.",
    64: "Delegation tokens cannot be asked for on this kind of connection.",
    65: "No permission on the delegation token.",
    66: "The delegation token is past its time.",
    67: "Principals of this type are not supported.",
    68: "The group still has members.",
    69: "There is no such group.",
    70: "There is no such fetch session.",
    71: "The epoch of the fetch session is another one.",
    72: "The leader has no listener of the name that this request came in by.",
    73: "Deleting topics is switched off.",
    74: "The leader epoch of the request is older than the broker's.",
    75: "The leader epoch of the request is newer than the broker's.",
    76: "The client's protocol version cannot carry this compression.",
    77: "The broker epoch is another one.",
    78: "The new leader does not yet know its high watermark.",
    79: "Join again with the member id that was given out.",
    80: "The preferred leader cannot lead now.",
    81: "The group is full.",
    82: "Another member holds this group.instance.id now.",
    83: "No replica that may lead is available.",
    84: "The leader is already the wanted one.",
    85: "The partition is not being reassigned.",
    86: "The group still subscribes to the topic.",
    87: "A record was refused.",
    88: "A transaction on these offsets is not finished yet.",
    89: "A quota is used up.",
    90: "A newer producer with the same transactional id has taken over.",
    91: "The request names a resource that does not exist.",
    92: "The request names a resource twice.",
    93: "The credential does not meet the requirements.",
    94: "Sender or recipient is not a voter.",
    95: "The update's version is not acceptable.",
    96: "The finalized features could not be changed.",
    97: "The principal inside a forwarded request cannot be read.",
    98: "There is no such snapshot.",
    99: "The position lies outside the snapshot.",
    100: "No topic with this id on this broker.",
    101: "Another broker uses this id.",
    102: "No broker is registered under this id.",
    103: "The topic id of the log is another one than the request's.",
    104: "The cluster id is another one.",
    105: "There is no such transactional id.",
    106: "The fetch session mixes topic names and topic ids.",
    107: "A replica in the new ISR may not be there.",
    108: "The partition was changed and has another leader now.",
    109: "The offset is in tiered storage only.",
    110: "The member epoch is no longer valid; give up all partitions and join again.",
    111: "The instance id is held by a member that has not left.",
    112: "The group cannot use this assignor.",
    113: "The member epoch is behind; fetch the present one with a heartbeat and try again.",
    114: "The request belongs to another kind of endpoint.",
    115: "This kind of endpoint is not supported yet.",
    116: "There is no such controller.",
    117: "The telemetry subscription is unknown or outdated.",
    118: "The telemetry is larger than the broker accepts.",
    119: "The broker's registration was not accepted.",
    120: "The transaction met an error; abort it to go on with this transactional id.",
    121: "The record is not in a state to be acknowledged so.",
    122: "There is no such share session.",
    123: "The epoch of the share session is another one.",
    124: "The state epoch is another one.",
    125: "The voter key is not this replica's.",
    126: "The voter is in the set already.",
    127: "The voter is not in the set.",
    128: "The regular expression cannot be read.",
    129: "The client's metadata are out of date; it should start from its bootstrap servers.",
    130: "The topology is not acceptable.",
    131: "The epoch of the topology is not acceptable.",
    132: "The epoch of the topology is old.",
    133: "No more share sessions can be opened.",
    134: "The group could not be deleted; its own result says why.",
    135: "The topology description could not be taken; the message says why.",
    136: "No controller is registered under this id.",
}
