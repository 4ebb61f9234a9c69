"""Asks the server at the socket that its argument names; fails when there is none."""

import socket
import sys

client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
print(client.recv(100).decode(), flush=True)
