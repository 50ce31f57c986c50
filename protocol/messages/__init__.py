"""Requests and responses, one module an API, named by the API's stem (`protocol.apis`).

Every field is declared once for all versions, in the language of `protocol.wire`: the range is what
Apache Kafka 3.9 in ZooKeeper mode and Apache Kafka 4.4 speak together. Field and struct names are
Kafka's; where request and response have different structs of one name, both get a prefix. Modules
are imported when their API is first used, so nothing is imported here.
"""
