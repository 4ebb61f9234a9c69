"""The scheduler: events in, actions out. No clock, no process, no file is touched here."""
