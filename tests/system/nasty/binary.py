"""Writes what is neither text nor UTF-8, to both streams, with NULs and without a last newline."""

import os

os.write(1, bytes(range(256)) * 8 + b"\xff\xfe\xed\xa0\x80\xc3")
os.write(2, b"\x1b[31m\x80\x00" + b"\r\n" * 3 + b"\xf8")
