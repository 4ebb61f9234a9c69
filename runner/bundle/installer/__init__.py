"""Installs, upgrades and removes runner on a machine; install.sh calls it, from a bundle.

It runs with nothing but Python's standard library, so it imports only itself. Each step leaves a
machine on which the same command can be called again: whatever is replaced is written beside and
renamed, a version's folder appears whole, and what is in use changes by one rename of a link.
Nothing is written before everything was checked, and what was made is on record before it is made.
"""
