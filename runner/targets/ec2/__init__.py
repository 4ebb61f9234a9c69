"""A queue on one EC2 instance: launched, looked at, resumed, and ended, from a laptop."""
