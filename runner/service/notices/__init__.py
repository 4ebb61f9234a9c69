"""Telling others what has become of a queue: who is told how, and how often it is tried."""
