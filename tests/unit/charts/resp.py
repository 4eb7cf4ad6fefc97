"""Redis' protocol, enough of it for a few commands (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""

from __future__ import annotations

import socket


class Resp:
    """A connection that asks and reads the answer."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.file = connected.makefile("rb")

    def ask(self, *words: object) -> object:
        """The answer, RuntimeError with the server's words where it is an error."""
        parts = [f"*{len(words)}\r\n", *(f"${len(str(word))}\r\n{word}\r\n" for word in words)]
        self.socket.sendall("".join(parts).encode())
        return self._answer()

    def _answer(self) -> object:
        line = self.file.readline().strip()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest.decode()
