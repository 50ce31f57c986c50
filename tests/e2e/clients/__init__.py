"""One adapter a stock client, all with the same few methods, so that one test text runs with each
of them.

`Adapter.fit` changes the records that a client refuses to send (a null header value, say) to the
nearest it does.
"""

from tests.e2e.clients.base import Adapter
from tests.e2e.clients.kcat import Kcat
from tests.e2e.clients.python_aiokafka import AioKafka
from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.clients.python_kafka import KafkaPython

ADAPTERS: dict[str, type[Adapter]] = {
    "kcat": Kcat,
    "confluent": Confluent,
    "aiokafka": AioKafka,
    "kafka-python": KafkaPython,
}
