"""Durable state: one SQLite database a queue, its projection for people, locks and paths."""
