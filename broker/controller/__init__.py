"""The controller: which broker leads what, decided on one node at a time, written to the store.

`state.py` is what the controller knows, `decide.py` turns what happened into changes of partition
states and requests to brokers (pure), `requests.py` writes those requests out, `topics.py` checks
and plans topic changes asked for by clients (pure), `channel.py` carries requests to brokers in
order, `run.py` is the shell: election, fenced writes, watches, one event after the other.

It uses the store and protocol messages; it never touches a log or a socket.
"""
