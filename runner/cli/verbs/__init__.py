"""The verbs: one file each, with ``configure(parser)`` and ``execute(arguments)``."""
