"""Mutated frames and deliberately bad input against a running broker.

Any bytes may come: the outcome is an answer that decodes or a closed connection, memory stays
bounded, the log stays short, and other connections notice nothing.
"""
