"""What generated sequences ask the coordinators: groups of all kinds, and one transactional id.

A value of a pool that stands in angle brackets is something the sequence was given before: a group
of its own, the id and generation of a member, a producer's id and epoch. What would have to wait
for somebody else is avoided: who joins a classic group without an id joins a new one, and share
groups, whose beginning takes its time, are only asked what is refused. Metadata is too long only in
transactions, whose offsets go to a group of their own: where all offsets are refused, Apache Kafka
keeps an empty group (the case `refused-as-the-first`).
"""

from collections.abc import Callable
from typing import Any

from compat.corpus.classic import subscription
from compat.script import Run

SETTLED = ("Empty", "Ongoing", "CompleteCommit", "CompleteAbort")
_EPOCHS = ("<epoch>", "<epoch>", "<epoch>", "<epoch>", 0, 1, -1, 32767)
_PRODUCERS = ("<producer>", "<producer>", "<producer>", "<producer>", 5_000_000, -1)
_NAMES = ("<tx>", "<tx>", "<tx>", "<tx>", "<other tx>", "")
_GROUPS = ("<group>", "<group>", "<group>", "<consumer>", "<new>")
_MEMBERS = ("<member>", "<member>", "<member>", "nobody", "")
_GENERATIONS = ("<generation>", "<generation>", "<generation>", 0, -1, 7)
_INSTANCES = (None, None, None, None, "i1")

POOLS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("*", "group_id"): (*_GROUPS, ""),
    ("OffsetCommit", "group_id"): _GROUPS,
    ("TxnOffsetCommit", "group_id"): ("<tx group>", "<tx group>", "<tx group>", ""),
    ("OffsetFetch", "group_id"): _GROUPS,
    ("*", "groups_names"): (*_GROUPS, ""),
    ("DescribeGroups", "groups"): _GROUPS,
    ("*", "group_ids"): (*_GROUPS, ""),
    ("*", "member_id"): _MEMBERS,
    ("*", "generation_id"): _GENERATIONS,
    ("*", "generation_id_or_member_epoch"): _GENERATIONS,
    ("*", "group_instance_id"): _INSTANCES,
    ("*", "reason"): (None, "why", ""),
    ("JoinGroup", "session_timeout_ms"): (10_000, 10_000, 10_000, 99, -1, 1_800_001),
    ("JoinGroup", "rebalance_timeout_ms"): (10_000, 0, -1),
    ("JoinGroup", "protocol_type"): ("consumer", "consumer", "consumer", "connect", ""),
    ("JoinGroup", "name"): ("range", "range", "sticky", "x"),
    ("JoinGroup", "metadata"): (subscription("t"), subscription(), b""),
    ("SyncGroup", "protocol_type"): (None, "consumer", "consumer", "connect"),
    ("SyncGroup", "protocol_name"): (None, "range", "range", "sticky"),
    ("SyncGroup", "assignment"): (b"", b"x", b"y" * 300),
    ("OffsetCommit", "committed_offset"): (0, 1, 5, -1, 2**40),
    ("OffsetCommit", "committed_metadata"): ("", "m", None, "x" * 4096),
    ("*", "committed_metadata"): ("", "m", None, "x" * 4097),
    ("*", "committed_leader_epoch"): (-1, 0, 7),
    ("OffsetCommit", "commit_timestamp"): (-1,),
    ("OffsetCommit", "retention_time_ms"): (-1, -1, 3_600_000),
    ("OffsetFetch", "member_epoch"): (-1, -1, 1),
    ("*", "states_filter"): ("Stable", "empty", "Dead", "x"),
    ("*", "types_filter"): ("classic", "Consumer", "share", "x"),
    ("*", "transactional_id"): _NAMES,
    ("*", "v3_and_below_transactional_id"): _NAMES,
    ("*", "transactional_ids"): _NAMES,
    ("*", "v3_and_below_producer_id"): _PRODUCERS,
    ("*", "v3_and_below_producer_epoch"): _EPOCHS,
    ("*", "producer_id"): _PRODUCERS,
    ("*", "producer_epoch"): _EPOCHS,
    ("InitProducerId", "transactional_id"): (None, "<tx>", "<tx>", "<tx>", ""),
    ("InitProducerId", "transaction_timeout_ms"): (60_000, 60_000, 60_000, 0, 900_001),
    ("InitProducerId", "producer_id"): (-1, -1, -1, "<producer>", "<producer>", 5_000_000),
    ("InitProducerId", "producer_epoch"): (-1, -1, -1, "<epoch>", "<epoch>", 5),
    ("WriteTxnMarkers", "coordinator_epoch"): (0, 0, 1, -1),
    ("WriteTxnMarkers", "transaction_version"): (0, 1, 2),
    ("*", "state_filters"): ("Ongoing", "Empty", "CompleteAbort", "x"),
    ("*", "producer_id_filters"): ("<producer>", 5_000_000),
    ("*", "duration_filter"): (-1, -1, 0, 3_600_000),
    ("*", "transactional_id_pattern"): (None, None, "", ".*-tx", "(", "nobody"),
    ("ConsumerGroupHeartbeat", "group_id"): (
        "<consumer>",
        "<consumer>",
        "<consumer>",
        "<group>",
        "",
    ),
    ("ConsumerGroupHeartbeat", "member_id"): ("m1", "m1", "m1", "nobody"),
    ("ConsumerGroupHeartbeat", "member_epoch"): (0, 0, "<member epoch>", "<member epoch>", -1, 9),
    ("ConsumerGroupHeartbeat", "instance_id"): (None, None, None, "i1", ""),
    ("ConsumerGroupHeartbeat", "rack_id"): (None, None, "r"),
    ("ConsumerGroupHeartbeat", "rebalance_timeout_ms"): (10_000, 10_000, 10_000, -1, 0),
    ("ConsumerGroupHeartbeat", "server_assignor"): (None, None, "uniform", "range", "x"),
    ("ConsumerGroupHeartbeat", "subscribed_topic_regex"): (None,),
    ("ShareGroupHeartbeat", "member_epoch"): (-1, 1, 5, -2),
    ("*", "share_session_epoch"): (-1, 1, 2, 77),
    ("ShareFetch", "max_wait_ms"): (0,),
    ("*", "acknowledge_types"): (0, 1, 2, 3, 4, 9),
    ("FindCoordinator", "key_type"): (0, 0, 1, 3, 9, -1),
}
"""Values by API and field; `*` stands for any API."""

APIS = (
    "JoinGroup", "SyncGroup", "Heartbeat", "LeaveGroup", "OffsetCommit", "OffsetFetch",
    "OffsetDelete", "TxnOffsetCommit", "DescribeGroups", "ListGroups", "DeleteGroups",
    "ConsumerGroupHeartbeat", "ConsumerGroupDescribe", "ShareGroupHeartbeat", "ShareGroupDescribe",
    "ShareFetch", "ShareAcknowledge", "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn",
    "WriteTxnMarkers", "DescribeTransactions", "ListTransactions",
)  # fmt: skip
NEVER_MANY = frozenset(
    (
        ("JoinGroup", "protocols"),
        ("ConsumerGroupHeartbeat", "subscribed_topic_names"),
        ("AddPartitionsToTxn", "transactions"),
        ("WriteTxnMarkers", "markers"),
        ("WriteTxnMarkers", "topics"),
        ("WriteTxnMarkers", "partition_indexes"),
    )
)
"""Lists of one at most: Apache Kafka has no answer to a protocol or a partition of a marker that is
named twice, or to some of several markers; and it spreads several topics by their ids, which
differ."""
_WRITES = ("EndTxn", "InitProducerId", "TxnOffsetCommit", "AddPartitionsToTxn", "AddOffsetsToTxn")


class Given:
    """What a sequence was given by the coordinators so far."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._made = 0
        self.values: dict[str, Any] = {
            "<group>": run.group("none"),
            "<consumer>": run.group("consumer"),
            "<tx group>": f"offsets-{run.case.name}",
            "<member>": "nobody",
            "<generation>": 1,
            "<member epoch>": 1,
            "<tx>": run.transactional_id("tx"),
            "<other tx>": run.transactional_id("other"),
            "<producer>": 5_000_001,
            "<epoch>": 0,
        }
        self._joining = ""

    def resolve(self, value: Any) -> Any:
        """A value of a pool, or what it stands for."""
        if value == "<new>":
            return self._fresh()
        return self.values.get(value, value) if isinstance(value, str) else value

    def _fresh(self) -> str:
        self._made += 1
        return self.run.group(f"g{self._made}")

    def adjust(self, api: str, fields: dict[str, Any]) -> None:
        """Who joins without an id joins a group that nobody is in."""
        if api == "JoinGroup":
            if not fields["member_id"]:
                fields["group_id"] = self._fresh()
            self._joining = fields["group_id"]

    def remember(self, api: str, answer: Any) -> None:
        """Takes over what an answer says."""
        if api == "JoinGroup" and answer.error_code in (0, 79):
            self.values["<group>"], self.values["<member>"] = self._joining, answer.member_id
            self.values["<generation>"] = max(answer.generation_id, 1)
        elif api == "ConsumerGroupHeartbeat" and answer.error_code == 0:
            self.values["<member epoch>"] = answer.member_epoch
        elif api in ("InitProducerId", "EndTxn") and answer.producer_id >= 0:
            self.values["<producer>"] = answer.producer_id
            self.values["<epoch>"] = answer.producer_epoch

    def settle(self, api: str) -> None:
        """Waits for the end of what a request on the transaction began."""
        if api in _WRITES:
            self.run.ask_until(
                lambda a: a.transaction_states[0].transaction_state in SETTLED
                or a.transaction_states[0].error_code != 0,
                "DescribeTransactions", 0, transactional_ids=[self.values["<tx>"]],
            )  # fmt: skip

    def own(self, api: str) -> Callable[[Any], None] | None:
        """What takes everybody else's groups and transactions out of a list."""
        start = self.run.fresh("")
        if api == "ListGroups":

            def keep(answer: Any) -> None:
                answer.groups = [g for g in answer.groups if g.group_id.startswith(start)]

            return keep
        if api == "ListTransactions":

            def keep_transactions(answer: Any) -> None:
                answer.transaction_states = [
                    s for s in answer.transaction_states if s.transactional_id.startswith(start)
                ]

            return keep_transactions
        return None
