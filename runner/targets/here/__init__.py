"""This machine as a target: a daemon's or a run's socket, or else the state folder itself."""
