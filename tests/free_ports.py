"""Ports that nobody listens on, for the programs that tests start."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from itertools import chain

FIRST, LAST = 10000, 29999
"""Below those that the kernel gives to connections (32768 and up, ip(7), ip_local_port_range): of these it takes any,
before the program that it was found for has begun to listen. Above are the node ports of a cluster.
"""
WORKERS = 8


def free_ports(count: int) -> list[int]:
    """None of them is given twice, nor by another worker of pytest-xdist."""
    return [next(_ports) for _number in range(count)]


def free_port() -> int:
    """One of them."""
    return next(_ports)


def _unused() -> Iterator[int]:
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % WORKERS
    size = (LAST - FIRST + 1) // WORKERS
    first = FIRST + worker * size
    # Other runs of the tests on the same machine begin elsewhere.
    begin = os.getpid() * 7 % size
    while True:
        for offset in chain(range(begin, size), range(begin)):
            with socket.socket() as probe:
                # A connection that has ended is in nobody's way.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("0.0.0.0", first + offset))  # noqa: S104 - nothing listens
                except OSError:
                    continue
            yield first + offset


_ports = _unused()
