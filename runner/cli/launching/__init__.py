"""What ``launch`` and ``resume`` do between their flags and their output."""
