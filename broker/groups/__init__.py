"""The group coordinator's machine: groups and committed offsets of one partition of
__consumer_offsets.

`machine.py` is what the shell (`broker.coordinator`) drives: it sends each record, timer and
request to the protocol it belongs to. `common.py` is what the protocols share. `classic.py`
(JoinGroup, SyncGroup), `consumer.py` (KIP-848) and `share.py` (KIP-932) each hold their kind of
group and its protocol; `offsets.py` the committed offsets of all. Everything here is synchronous
and pure: time is an argument, member ids come from `Shared.new_id`, timers are set by key. Sockets,
logs and the event loop are the shell's.
"""
