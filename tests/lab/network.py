"""Sockets in another network namespace.

A socket belongs to the namespace of the thread that made it, for as long as it lives, whichever
thread uses it later. So a server for a machine is made in a thread that has entered its namespace.
"""

from __future__ import annotations

import ctypes
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def in_namespace(namespace: Path, make: Callable[[], _T]) -> _T:
    """What ``make`` returns when it is called in the namespace; raises what it raises.

    Threads that it starts are in the namespace too.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(namespace, os.O_RDONLY)
            try:
                if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {namespace}")
            finally:
                os.close(descriptor)
            results.append(make())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class Forwarder:
    """127.0.0.1:``port`` of the namespace leads to 127.0.0.1:``port`` of this process. Close it."""

    def __init__(self, namespace: Path, port: int) -> None:
        self._server = in_namespace(namespace, lambda: _Server(("127.0.0.1", port), _Connection))
        # Its connections onwards are made here: by threads of a thread of ours.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


class _Connection(socketserver.BaseRequestHandler):
    request: socket.socket

    def handle(self) -> None:
        try:
            onwards = socket.create_connection(self.server.server_address[:2])
        except OSError:
            return
        with onwards:
            back = threading.Thread(target=_copy, args=(onwards, self.request), daemon=True)
            back.start()
            _copy(self.request, onwards)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is gone: the other one is to notice.
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
