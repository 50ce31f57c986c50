"""The group coordinator's machine: groups and committed offsets of one partition of
__consumer_offsets.

`machine.py` is what the shell (`broker.coordinator`) drives: it sends each record, timer and
request to the protocol it belongs to. `common.py` is what the protocols share. `classic.py`
(JoinGroup, SyncGroup), `consumer.py` (KIP-848) and `share.py` (KIP-932) each hold their kind of
group and its protocol; `offsets.py` the committed offsets of all.

Of consumer groups, `consumer_group.py` is the state, `consumer_turn.py` what one request changes,
`assignors.py` computes targets, `reconcile.py` moves a member towards its own, `consumer_regex.py`
looks up patterns (`regex.py`), `consumer_classic.py` serves members of the classic protocol among
the others and `consumer_migration.py` changes a whole group's protocol.

Everything here is synchronous and pure: time is an argument, member ids come from `Shared.new_id`,
timers are set by key. Sockets, logs and the event loop are the shell's.
"""
