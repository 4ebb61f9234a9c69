"""What a queue is: its document, durations, graph and settings. Nothing here runs anything."""
