"""Stock clients on loopback against a broker process, and the kill tests.

`ODRADEK_BOOTSTRAP=host:port` runs the client tests against any running broker instead of one
started here.
"""
