"""Share groups' records (KIP-932): who has which, how often it was delivered, what is done with.

`state.py` is the share coordinator's machine on one partition of __share_group_state: what is
durable of every share partition (a topic partition as one group sees it). `persister.py` is how a
partition's leader and the group coordinator talk to it. `partition.py`, over `inflight.py` and
`acquire.py`, is the leader's side, in memory: records in flight, locks, acknowledgements.
`sessions.py` holds share sessions. All of these are synchronous and pure. `manager.py` ties them to
logs, connections and the clock, `fetch.py` is one ShareFetch that may wait, and `groups.py` what
concerns the group coordinator and the states both.
"""
