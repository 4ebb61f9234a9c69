"""What a program can do where runner isn't there yet: Python 3.6 and its standard library.

Sent as text to new machines and containers, where it lies below the same name.
"""
