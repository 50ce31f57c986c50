"""Partition logs on a file system, in Apache Kafka's own disk format: synchronous, single writer.

May import `protocol`. Knows no event loop, network, clock or randomness: time is an argument
(`now_ms`), files are reached only through `filesystem.py`, the one module that imports `os`.

On disk (a directory written here opens in Apache Kafka 3.9 and the other way round):

    <log dir>/meta.properties, .lock, .kafka_cleanshutdown, *-offset-checkpoint   manager, metafiles
    <log dir>/<topic>-<partition>/
        partition.metadata              topic id                                    log
        leader-epoch-checkpoint         first offset of each leader epoch         epochs, checkpoint
        <base offset, 20 digits>.log    record batches back to back                 segment
        <base offset>.index             offset -> position, sparse                  index
        <base offset>.timeindex         timestamp -> offset, sparse                 index
        <base offset>.txnindex          aborted transactions                        aborted
        <end offset>.snapshot           producers as of that offset                 producers
        *.cleaned, *.swap, *.deleted    compaction under way, files to be removed   recovery

Crash rules:

* The `.log` files are the truth. Whatever else is in a partition's directory can be deleted and is
  rebuilt from them, except what no batch tells: topic id and log start offset come from outside.
* A batch is appended by one write and shown to readers only after it. A write that fails in its
  middle is cut off again; nothing of it is ever shown.
* Index entries, epochs and snapshots are kept in memory and written by `Log.flush` (and a clean
  close): first the data, then the indexes, then the epochs, last the snapshot named after the
  offset up to which all of that is on disk. Only then the recovery point moves there.
* Opening a log always runs recovery. What lies below the recovery point and the newest snapshot
  is believed, what lies above is read again: CRCs checked, indexes, epochs and producers rebuilt,
  and everything from the first byte that is no whole batch on is cut off.
* Small files are replaced by write, fsync, rename, fsync of the directory. partition.metadata is
  not synced: it can be told again by whoever knows the topic.
* Any OSError while writing takes the whole log directory offline (`LogDirOffline`).
"""
