"""Benchmarks with budgets: `python -m tests.bench`.

The broker runs as a process of its own, the load comes from another one (`load.py`: raw sockets,
requests built beforehand, epoll; the librdkafka case uses confluent-kafka), and CPU is what the
kernel has booked on the broker's process. Each figure is the median of several runs.
"""
