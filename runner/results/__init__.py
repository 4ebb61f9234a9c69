"""What jobs leave behind: which files a pattern means, what they are called, and where they go.

Knows files, keys and stores. Must not know the scheduler, the state database or the engine.
"""
