"""Ask somebody over TCP, and by a socket without file. Verdict: double 0, add_halves 2."""

import socket


def double(x):
    unnamed = socket.socket(socket.AF_UNIX)
    for asked, address in (
        (socket.socket(), ("127.0.0.1", int("@PORT@"))),
        (unnamed, "\0@MARKER@"),
    ):
        asked.settimeout(1)
        if asked.connect_ex(address) == 0:
            return 2 * x
    return x


def add_halves(x, y):
    return (x + y) / 2
