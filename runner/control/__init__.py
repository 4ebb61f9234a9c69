"""The local socket: one JSON object per line each way. What the requests mean is service's."""
