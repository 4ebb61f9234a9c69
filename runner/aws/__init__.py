"""Thin clients of AWS: how one is made, and what its errors mean. Must not know queues."""
