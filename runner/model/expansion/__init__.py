"""What a document may say in short (defaults, parameters, matrices), written out as plain jobs.

Happens once, when a document is read; nothing below knows of it. Pure: the clock comes in.
"""
