"""The transaction coordinator: transactional ids and their transactions on one partition of
__transaction_state, and what a transaction needs at the partitions it writes to.

`state.py` is one transactional id with its record; `machine.py` decides (InitProducerId,
AddPartitionsToTxn, EndTxn, time-outs) and is driven by the shell (`broker.coordinator`).
`markers.py` takes a transaction's end to the partitions; `verification.py` asks the coordinator
before a partition takes a transaction's first batch (KIP-890). The first two are synchronous and
pure: time and producer ids are arguments; the others are shells on the event loop.
"""
