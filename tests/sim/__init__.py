"""Whole clusters in one process on virtual time: nodes, controller, store and clients over a
network of their own making, with seeded delays, cuts, crashes and session expiries.

`loop.py` is an event loop whose clock jumps to the next event and in which a node can die;
`network.py` are the sockets between nodes. The code that runs is the broker's own. A seed decides
everything, so a failing one replays exactly.
"""
