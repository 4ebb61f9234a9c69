"""Files of a job on their way into a result store: collected, hashed, sent, recorded."""
