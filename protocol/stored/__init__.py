"""What is kept inside records rather than sent: the coordinators' topics, and the blobs of groups.

Declared in the same language as the messages, for all versions that Apache Kafka 3.9 and 4.4 write.
A stored thing is led by an int16: in keys the kind of record, in values and blobs its version.
`versioned` has the helpers for that. Modules are imported when they are needed.
"""
