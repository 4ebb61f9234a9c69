"""The end of a machine, and what of its work is stored before."""
