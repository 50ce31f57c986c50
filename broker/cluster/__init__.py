"""What the cluster agrees on: the metadata store, the znode layout, and the picture handlers read.

`store.py` is the one interface to the tree that holds the cluster's metadata (ZooKeeper's model),
`local.py` the embedded implementation, `zookeeper.py` the one over a real ZooKeeper (only it
imports kazoo, and it is imported only when it is wanted; its helpers are `zookeeper_io.py`,
`zookeeper_options.py`, `jute.py`, `digest_md5.py`), `layout.py` the paths and JSON of Apache Kafka
3.9, `membership.py` this broker's registration, `configs.py` overrides of topics and brokers,
`view.py` the frozen picture that UpdateMetadata requests paint and that handlers read.

Nothing here decides who leads: that is `broker.controller`. Nothing here opens a Kafka connection.
"""
