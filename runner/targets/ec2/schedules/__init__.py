"""Schedules: EventBridge Scheduler launches a machine for a queue, again and again."""
