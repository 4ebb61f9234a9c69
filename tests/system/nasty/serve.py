"""A server on the socket that its argument names: starts in the background, then the job ends."""

import os
import socket
import sys

server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
if os.fork() == 0:
    while True:
        client, _ = server.accept()
        client.sendall(b"hello")
        client.close()
