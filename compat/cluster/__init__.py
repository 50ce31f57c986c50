"""Three brokers on one ZooKeeper under comparison: Apache Kafka's and Odradek's.

`place.py` is such a cluster, of either kind; `script.py` the language of its scenarios, which
extends `compat.script`; `corpus/` the scenarios; `run.py` the comparison, live or with recorded
answers. Unlike the cases of a single broker, scenarios stop and start brokers: they are played one
after the other in a fixed order, and one scenario asks all versions of an API.
"""
