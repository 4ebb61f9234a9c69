"""The fleet: many workers take the tasks of a job from one task queue, each task once in effect."""
